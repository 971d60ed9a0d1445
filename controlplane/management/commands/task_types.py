from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.examples import before, request_of
from controlplane.task_types import parameters
from workers.executors import TASK_EXECUTOR_REGISTRY
from workers.problems import closest


class Command(BaseCommand):
    help = (
        "List the task types, or tell all about one (lr) or a variant of one (component:stats/ss_vif): what it reads "
        "and keeps, its parameters, and an example as POST /api/v1/executions/ takes it."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("task_type", nargs="?")

    def handle(self, *args: Any, task_type: str | None, **options: Any) -> None:
        try:
            for line in _about(task_type) if task_type else _overview():
                self.stdout.write(line)
            self.stdout.flush()
        except BrokenPipeError:
            # such as head, which has read enough; Python flushes once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _overview() -> Iterator[str]:
    return (f"{name:16} {executor.title}" for name, executor in TASK_EXECUTOR_REGISTRY.items())


def _about(asked: str) -> Iterator[str]:
    """Raises CommandError where there is no such task type."""
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


def _indented(text: str) -> Iterator[str]:
    if text:
        yield textwrap.indent(textwrap.fill(text, 92), "      ")
