"""Problems of documents as Django's errors on the fields of a model, and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.core.exceptions import ValidationError

from workers.contract.problems import Problem


def document_errors(problems: Mapping[str, list[Problem]]) -> ValidationError:
    """Django's ValidationError on each field, one message per problem, with its path as ``params``."""
    return ValidationError(
        {
            name: [
                # Django fills in params by %: a column name may have one
                ValidationError(
                    (str(p) if p.path else p.message).replace("%", "%%"), code="document", params={"path": p.path}
                )
                for p in found
            ]
            for name, found in problems.items()
        }
    )


def named_errors(error: ValidationError) -> Iterator[tuple[str, str, ValidationError]]:
    """Yield the model's field, the path within it, and the entry with its message (which begins with the path, if
    there is one)."""
    for name, entries in error.error_dict.items():
        for entry in entries:
            yield name, (entry.params or {}).get("path", "") if entry.code == "document" else "", entry
