"""Reads a profile's YAML by the same rules as ``manage.py profile``: a file has one meaning.

Allowed is what JSON has, too, as YAML 1.2 spells it: ``no``, ``on`` and ``2026-01-01`` are text. Refused: a key twice,
anchors and aliases, tags, keys that are no text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from secretflow_controlplane_client.errors import INPUT, ControlPlaneError

LARGEST = 1_000_000  # bytes
DEEPEST = 40
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
)


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
            raise _refused(event, f"it is nested too deeply; {DEEPEST} levels are the most")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _refused(key, "this key is not text; put it in quotes")
            if key.value in found:
                raise _refused(key, f"{key.value!r} is a key here already; name it once")
            found[key.value] = self.construct_object(value, deep=True)
        return found

    def construct_yaml_int(self, node: Any) -> int:
        if len(node.value) > 40:
            raise _refused(node, "this number is too large")
        return int(node.value)


for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_mapping)


def read_profile(source: Path) -> dict[str, Any]:
    """Return the content of a profile's file. Raises ControlPlaneError."""
    try:
        raw = source.read_bytes()
    except OSError as error:
        raise ControlPlaneError(INPUT, f"{source} cannot be read: {error.strerror}") from None
    if len(raw) > LARGEST:
        raise ControlPlaneError(INPUT, f"{source} is too large; {LARGEST:,} bytes are the most.")
    try:
        data = yaml.load(raw.decode("utf-8-sig"), Loader=_Loader)  # noqa: S506  a SafeLoader
    except UnicodeDecodeError:
        raise ControlPlaneError(INPUT, f"{source} is not UTF-8; save it as UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ControlPlaneError(INPUT, f"{source}{line}: {error.problem or 'this is no YAML'}") from None
    except (yaml.YAMLError, RecursionError):
        raise ControlPlaneError(INPUT, f"{source} holds characters that YAML does not take.") from None
    if not isinstance(data, dict):
        raise ControlPlaneError(INPUT, f"{source} holds no profile: it should have sections such as parties and tasks.")
    return data


def _refused(at: Any, what: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=at.start_mark)
