from __future__ import annotations

import json
import textwrap
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.task_types import parameters
from workers.executors import TASK_EXECUTOR_REGISTRY
from workers.problems import closest


class Command(BaseCommand):
    help = "List the task types, or tell all about one: its parameters and an example."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("task_type", nargs="?")

    def handle(self, *args: Any, task_type: str | None, **options: Any) -> None:
        if task_type is None:
            for name, executor in TASK_EXECUTOR_REGISTRY.items():
                self.stdout.write(f"{name:16} {executor.title}")
            return
        task_type, _, variant = task_type.partition(":")
        if task_type not in TASK_EXECUTOR_REGISTRY:
            raise CommandError(f"There is no such task type; {closest(task_type, TASK_EXECUTOR_REGISTRY)}")
        executor = TASK_EXECUTOR_REGISTRY[task_type]
        if variant and variant not in executor.variants():
            raise CommandError(f"{task_type} has no such variant; {closest(variant, executor.variants())}")
        self.stdout.write(f"{executor.title}\n\n{textwrap.fill(executor.description(), 100)}\n\nParameters:\n")
        for parameter in parameters(executor, variant):
            must = "required" if parameter.required else f"default {parameter.default or 'none'}"
            self.stdout.write(f"  {parameter.path}: {parameter.kind} ({must})")
            if parameter.help:
                self.stdout.write(textwrap.indent(textwrap.fill(parameter.help, 92), "      "))
        for name, text in executor.variants().items() if not variant else ():
            reason = executor.not_here(name)
            self.stdout.write(f"  {task_type}:{name}  {text}" + (f" (cannot run here: {reason})" if reason else ""))
        self.stdout.write(f"\nExample (task_config):\n{json.dumps(executor.example, indent=2)}")
