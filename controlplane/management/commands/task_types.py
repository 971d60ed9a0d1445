from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.examples import before, request_of
from controlplane.task_types import parameters
from workers.contract.problems import closest
from workers.contract.registry import TASK_EXECUTOR_REGISTRY

if TYPE_CHECKING:
    from workers.executors.base import BaseTaskExecutor

PAGE = """# Task types

<!-- Made by `make docs` from the parameter models. Do not edit. -->

A task names one of these types in its `task_config`. The same information, and the whole body of a
`POST /api/v1/executions/` that runs each example with the demo's tables, is at `GET /api/v1/task-types/`, at
*All task types* beside a task's form, and in `manage.py task_types lr` (or `component:stats/ss_vif`).
[Tables, rows and keys](data.md) describes what all of them have in common. An output is a dataset of its party, so
that the next task can name it."""


class Command(BaseCommand):
    help = (
        "List the task types, or tell all about one (lr) or a variant of one (component:stats/ss_vif): what it reads "
        "and keeps, its parameters, and an example as POST /api/v1/executions/ takes it."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("task_type", nargs="?")
        parser.add_argument("--markdown", action="store_true", help="Print docs/task-types.md.")

    def handle(self, *args: Any, task_type: str | None, markdown: bool, **options: Any) -> None:
        try:
            for line in _page() if markdown else _about(task_type) if task_type else _overview():
                self.stdout.write(line)
            self.stdout.flush()
        except BrokenPipeError:
            # the reader, such as head, has closed the pipe; Python would flush once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _overview() -> Iterator[str]:
    return (f"{name:16} {executor.title}" for name, executor in TASK_EXECUTOR_REGISTRY.items())


def _about(asked: str) -> Iterator[str]:
    """Return the text about one task type. Raises CommandError if there is no such task type."""
    task_type, _, variant = asked.partition(":")
    if task_type not in TASK_EXECUTOR_REGISTRY:
        raise CommandError(f"There is no such task type; {closest(task_type, TASK_EXECUTOR_REGISTRY)}")
    executor = TASK_EXECUTOR_REGISTRY[task_type]
    variants = executor.variants()
    if variant and variant not in variants:
        raise CommandError(f"{task_type} has no such variant; {closest(variant, variants)}")
    yield f"{executor.title}\n\n{textwrap.fill(executor.description(), 100)}"
    if variant:
        yield f"\n{variant}\n{textwrap.fill(variants[variant], 100)}"
    if reason := executor.not_here(variant) if variant else "":
        yield f"\nCannot run here: {reason}"
    if places := executor.places(variant):
        yield "\nReads and keeps:"
        for place in places:
            yield f"  {place.name}: {place.where} ({' or '.join(place.kinds)})"
            yield from _indented(place.help)
    yield "\nParameters:"
    for parameter in parameters(executor, variant):
        must = "required" if parameter.required else f"default {parameter.default or 'none'}"
        yield f"  {parameter.path}: {parameter.kind} ({must})"
        yield from _indented(parameter.help)
    for name, text in variants.items() if not variant else ():
        reason = executor.not_here(name)
        yield f"  {task_type}:{name}  {text}" + (f" (cannot run here: {reason})" if reason else "")
    if example := executor.example_of(variant):
        yield "\nExample (POST /api/v1/executions/; a task's document is its task_config):"
        yield from before(example)
        yield json.dumps(request_of(example), indent=2)


def _page() -> Iterator[str]:
    """Return the lines of docs/task-types.md. Task types of other packages are left out."""
    yield PAGE
    for name, executor in TASK_EXECUTOR_REGISTRY.items():
        if executor.__module__.startswith("workers."):
            yield from _section(name, executor)


def _section(name: str, executor: type[BaseTaskExecutor]) -> Iterator[str]:
    yield f"\n## `{name}`: {executor.title}\n\n{textwrap.fill(executor.description(), 118)}"
    if places := executor.places(""):
        yield "\n| role | where | what may be there | |\n|---|---|---|---|"
        for place in places:
            yield f"| {place.name} | `{place.where}` | {' or '.join(place.kinds)} | {place.help} |"
    yield "\n| parameter | value | default | |\n|---|---|---|---|"
    for parameter in parameters(executor):
        default = "required" if parameter.required else f"`{parameter.default}`" if parameter.default else ""
        yield f"| `{parameter.path}` | {parameter.kind} | {default} | {parameter.help} |"
    if variants := executor.variants():
        yield f"\n| `{name}` | what it does |\n|---|---|"
        for variant, text in variants.items():
            reason = executor.not_here(variant)
            yield f"| `{variant}` | {text}" + (f" **Cannot run here:** {reason}" if reason else "") + " |"
    if example := executor.example_of(""):
        yield "\nExample of a `task_config`:"
        yield f"\n```json\n{json.dumps(example, indent=2)}\n```"


def _indented(text: str) -> Iterator[str]:
    if text:
        yield textwrap.indent(textwrap.fill(text, 92), "      ")
