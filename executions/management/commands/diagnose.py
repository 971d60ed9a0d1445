"""Writes everything about one execution to a zip file, and prints a first reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from executions.diagnosis.bundle import diagnose, name_of
from executions.diagnosis.reading import first_reading
from executions.models import Execution
from executions.models.submission import ids_beginning

#: Characters of an id that pages and logs show.
SHORT = 8


class Command(BaseCommand):
    help = (
        "Write a zip file about one execution: a first reading, documents with secrets masked, events, checks and "
        "versions. Prints the reading."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("execution", help="Its id, or the first 8 characters of it.")
        parser.add_argument("--output", metavar="FILE", help="The file to write; diagnosis-<id>.zip if left out.")

    def handle(self, *args: Any, execution: str, output: str | None, **options: Any) -> None:
        found = _execution(execution)
        path = Path(output or name_of(found))
        try:
            with path.open("xb") as file:
                file.write(diagnose(found))
        except FileExistsError:
            raise CommandError(f"{path} exists; name a new file with --output.") from None
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from None
        self.stdout.write(first_reading(found))
        self.stdout.write(f"Written to {path}.")


def _execution(text: str) -> Execution:
    """Return the execution of an id or of its beginning. Raises CommandError."""
    try:
        first, last = ids_beginning(text) or (UUID(text), UUID(text))
    except ValueError:
        raise CommandError(
            f"{text!r} is no id; give the id of an execution, or its first {SHORT} characters."
        ) from None
    found = list(Execution.objects.filter(pk__gte=first, pk__lte=last)[:2])
    if not found:
        raise CommandError(f"There is no execution {text}.")
    if len(found) > 1:
        raise CommandError(f"Several executions begin with {text}; give the whole id.")
    return found[0]
