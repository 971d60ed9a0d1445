"""A name-to-class registry whose classes are imported on first use.

Entries are dotted paths ``package.module:Class`` so that the web side can list names without importing
anything, and other installed packages can add entries through a Python entry point group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    def __init__(self, entries: dict[str, str], *, group: str) -> None:
        # Ours first, and nobody replaces one of ours
        self._paths = entries | {e.name: e.value for e in entry_points(group=group) if e.name not in entries}
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._loaded:
            module, _, attribute = self._paths[name].partition(":")
            self._loaded[name] = getattr(import_module(module), attribute)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, name: object) -> bool:
        return name in self._paths
