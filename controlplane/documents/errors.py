"""Turns problems of documents into Django's errors on the fields of a model, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.core.exceptions import ValidationError

from controlplane.language import translated
from workers.contract.problems import Problem


def document_errors(problems: Mapping[str, list[Problem]]) -> ValidationError:
    """Return a ValidationError with a message for each problem at its field; ``params`` holds the path."""
    return ValidationError(
        {
            name: [
                # Django formats messages by %: a column name may hold one
                ValidationError(
                    translated(str(p) if p.path else p.message).replace("%", "%%"),
                    code="document",
                    params={"path": p.path},
                )
                for p in found
            ]
            for name, found in problems.items()
        }
    )


def named_errors(error: ValidationError) -> Iterator[tuple[str, str, ValidationError]]:
    """Yield each error with the model's field and the path within it. The error's message begins with the path, if
    any."""
    for name, entries in error.error_dict.items():
        for entry in entries:
            yield name, (entry.params or {}).get("path", "") if entry.code == "document" else "", entry
