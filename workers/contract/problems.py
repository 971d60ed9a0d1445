"""A problem in a document: where, what is wrong, what would be right.

Messages never repeat the value found: it may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from workers.contract.errors import ConfigError
from workers.contract.wording import MayTell, hint


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a document."""

    path: str
    wrong: str
    right: str
    #: What is told instead of ``right`` to those who may not read the catalogue, where that names what is in it.
    elsewhere: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"

    @property
    def message(self) -> str:
        return f"{self.wrong}; {self.right}" if self.right else self.wrong

    def under(self, prefix: str) -> Problem:
        return replace(self, path=".".join(p for p in (prefix, self.path) if p))

    def told(self) -> Problem:
        """Return the problem without what a catalogue has."""
        return replace(self, right=self.elsewhere or self.right, elsewhere="")

    def as_dict(self) -> dict[str, str]:
        return {"path": self.path, "wrong": self.wrong, "right": self.right}


class DocumentsInvalid(ConfigError):
    """One or more documents are wrong; ``problems`` lists all of it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))

    def told(self, may_tell: MayTell) -> str:
        """Return the problems' texts without what this host's catalogue has."""
        return "\n".join(str(problem.told()) for problem in self.problems)


def closest(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` if a known name is close, otherwise a list of the known names."""
    return str(hint(name, known))


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return pydantic's errors as problems."""
    found = []
    for entry in error.errors(include_url=False, include_input=False):
        loc = [str(p) for p in entry["loc"]]
        # pydantic names the key of a mapping as "[key]" when the key itself is what is wrong
        path = ".".join(p for p in loc if p != "[key]")
        wrong, right = _wording(entry, model)
        found.append(Problem(path, wrong, right))
    return found


def _wording(entry: Any, model: type[BaseModel]) -> tuple[str, str]:
    kind, context = entry["type"], entry.get("ctx", {})
    loc = entry["loc"]
    if kind == "extra_forbidden":
        return "unknown key", closest(str(loc[-1]), _known_keys(model, loc[:-1]))
    if kind == "missing":
        return "is required", "add it"
    if kind == "value_error":
        wrong, _, right = str(context["error"]).partition("; ")
        return wrong, right
    if kind in ("literal_error", "enum"):
        return "is not one of the allowed values", f"should be {context['expected']}"
    if kind == "string_pattern_mismatch":
        return "is not a valid name", f"should match {context['pattern']}"
    if kind in ("too_short", "string_too_short") and context["min_length"] == 1:
        return "is empty", "fill it in"
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        return "has a wrong number of entries", (
            f"should have at least {context['min_length']}" if least else f"should have at most {context['max_length']}"
        )
    if kind in _SHOULD_BE:
        return "has a wrong value", f"should be {_SHOULD_BE[kind]}"
    message = entry["msg"].removeprefix("Input ").removeprefix("Value ")
    return "has a wrong value", message[:1].lower() + message[1:]


#: Own texts for pydantic's kinds of error whose texts are about Python.
_SHOULD_BE = {
    "dict_type": "an object with named keys",
    "model_type": "an object with named keys",
    "list_type": "a list",
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
}


def _known_keys(model: Any, loc: Iterable[Any]) -> list[str]:
    """Return the field names of the model at the path ``loc``; none if the path leaves the models."""
    for step in loc:
        known = {f.alias or name: f for name, f in getattr(model, "model_fields", {}).items()}
        model = _model_in(known[step].annotation) if step in known else model
        if model is None:
            return []
    return [f.alias or name for name, f in getattr(model, "model_fields", {}).items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found:
            return found
    return None
