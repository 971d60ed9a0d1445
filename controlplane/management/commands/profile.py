from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, IntegrityError

from controlplane.profiles.apply import Outcome, apply, plan
from controlplane.profiles.export import export
from controlplane.profiles.yaml import LARGEST, ProfileInvalid


class Command(BaseCommand):
    help = (
        "An environment in one YAML file: parties, datasets, configurations, tasks, pipelines, schedules. check: is it "
        "right? diff: what would apply change? apply: make it so, wholly or not at all; what the file does not name is "
        "left alone. export: write what is registered, to FILE or the terminal."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["check", "diff", "apply", "export"])
        parser.add_argument("file", metavar="FILE", nargs="?", help="Such as config/dev.yaml.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._handle(options["action"], options["file"])
        except IntegrityError:
            raise CommandError("Something of the same name was registered meanwhile; nothing was done.") from None
        except DatabaseError:  # the database's own text names tables and hosts
            raise CommandError(
                "The database does not answer, is busy, or is not migrated; nothing was done. "
                "Check DATABASE_URL and run `manage.py migrate`."
            ) from None

    def _handle(self, action: str, file: str | None) -> None:
        if action == "export":
            self._export(file)
            return
        if file is None:
            raise CommandError(f"Name the file: `manage.py profile {action} config/dev.yaml`.")
        raw = _read(file)
        try:
            outcome = apply(raw, f"profile {Path(file).name} applied") if action == "apply" else plan(raw)
        except ProfileInvalid as error:
            number = len(error.problems)
            raise CommandError(f"{file} has {number} problem{'s' if number > 1 else ''}:\n{error}") from None
        if action == "check":
            total = len(outcome.added) + len(outcome.changed) + outcome.unchanged
            self.stdout.write(f"{file} is right: {total} entries.")
        else:
            self._show(outcome, applied=action == "apply")
        for problem in outcome.broken:
            self.stderr.write(self.style.WARNING(f"not in the profile, and not valid with it: {problem}"))
        if outcome.unchecked:
            self.stderr.write(f"not in the profile, and too many to be checked: {outcome.unchecked} more tasks")

    def _show(self, outcome: Outcome, *, applied: bool) -> None:
        for path in outcome.added:
            self.stdout.write(self.style.SUCCESS(f"+ {path}"))
        for path, changes in outcome.changed.items():
            self.stdout.write(self.style.WARNING(f"~ {path}"))
            for change in changes:
                self.stdout.write(f"    {change}")
        if outcome.nothing:
            self.stdout.write(f"nothing to change: {outcome.unchanged} entries are as the profile says")
        else:
            done = "applied" if applied else "would change"
            self.stdout.write(
                f"{done}: {len(outcome.added)} added, {len(outcome.changed)} changed, {outcome.unchanged} unchanged"
            )
        if outcome.left_alone:
            self.stdout.write(f"not in the profile, left alone: {', '.join(outcome.left_alone)}")

    def _export(self, file: str | None) -> None:
        text = export()
        if file is None:
            self.stdout.write(text, ending="")
            return
        try:
            Path(file).write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}.") from None
        self.stdout.write(f"wrote {file}")


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(LARGEST + 1)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
