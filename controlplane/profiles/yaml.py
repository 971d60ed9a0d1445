"""Reads and writes a profile's YAML. Reading is strict, so that a file has one meaning, and remembers lines.

Allowed is what JSON has, too: named keys, lists, text, numbers, true, false and null, as YAML 1.2 spells them (``no``,
``on`` and ``2026-01-01`` are text; ``1e-3`` is a number). Refused: a key twice, anchors and aliases (by which a few
lines can become gigabytes), tags (by which text can become anything), more than one document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

from workers.contract.problems import Problem

LARGEST = 1_000_000  # bytes
DEEPEST = 40

_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
)


class ProfileInvalid(Exception):
    """A profile is wrong; ``problems`` has all problems, in the order of the file."""

    def __init__(self, problems: Iterable[Problem], lines: dict[str, int] | None = None) -> None:
        self._lines = lines or {}
        self.problems = sorted(set(problems), key=lambda p: (self.line(p) or 0, p))
        super().__init__("\n".join(map(self._worded, self.problems)))

    def line(self, problem: Problem) -> int | None:
        """Return the line of a path, or of the nearest entry around it that is in the file."""
        path = problem.path
        while path and path not in self._lines:
            path = path.rpartition(".")[0]
        return self._lines.get(path)

    def _worded(self, problem: Problem) -> str:
        line = self.line(problem)
        return (f"line {line}: " if line else "") + (str(problem) if problem.path else problem.message)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _refused(event, "anchors and aliases (& and *) are not taken; write the value out where it is needed")
        if event.tag is not None:
            raise _refused(event, "tags (!) are not taken; leave it out, and put text in quotes")
        self._depth += 1
        if self._depth > DEEPEST:
            raise _refused(event, f"is nested too deeply; {DEEPEST} levels are the most")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _refused(key, "a key that is not text; put it in quotes")
            if key.value in lines:
                raise _refused(key, f"{key.value!r} is a key here already, in line {lines[key.value]}; name it once")
            lines[key.value] = key.start_mark.line + 1
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def construct_yaml_int(self, node: Any) -> int:
        if len(node.value) > 40:  # Python refuses to read thousands of digits
            raise _refused(node, "is too large a number; give one that a computer can hold")
        return int(node.value)


for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_mapping)


class _Dumper(yaml.SafeDumper):
    # the same rules when writing: text that would be read as something else gets quotes
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        in_a_line = not any(isinstance(entry, list | dict) for entry in sequence)
        return super().represent_sequence(tag, sequence, flow_style=in_a_line)


def read(raw: bytes) -> tuple[Any, dict[str, int]]:
    """Return the content of a profile's file, and the line of each dotted path in it. Raises ProfileInvalid."""
    if len(raw) > LARGEST:
        raise ProfileInvalid([Problem("", "the file is too large", f"{LARGEST:,} bytes are the most")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ProfileInvalid([Problem("", f"line {line}: is not UTF-8", "save the file as UTF-8")]) from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = loader.construct_document(node) if node is not None else None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ProfileInvalid(
            [Problem("", f"line {line}: holds a character that YAML does not take", "remove it")]
        ) from None
    except yaml.MarkedYAMLError as error:
        raise ProfileInvalid([_problem(error)]) from None
    lines: dict[str, int] = {}
    if node is not None:
        _note_lines(node, "", lines)
    return data, lines


def write(data: Any) -> str:
    """Return ``data`` as YAML, from which ``read`` makes the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _refused(at: Any, what: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=at.start_mark)


def _problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    said = error.problem or "is not YAML"
    if said.startswith("but ") and error.context:  # the other half of the sentence
        said = f"{error.context} {said}"
    wrong, _, right = said.partition("; ")
    return Problem("", where + wrong, right or "correct the YAML there")


def _note_lines(node: Any, path: str, lines: dict[str, int]) -> None:
    for index, entry in enumerate(node.value if isinstance(node, yaml.CollectionNode) else ()):
        key, value = entry if isinstance(node, yaml.MappingNode) else (None, entry)
        name = str(index) if key is None else key.value
        where = f"{path}.{name}" if path else name
        lines[where] = (key or value).start_mark.line + 1
        _note_lines(value, where, lines)
