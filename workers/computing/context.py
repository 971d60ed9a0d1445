"""The context of a run, which executors are handed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from workers.contract.catalogue import TABLE
from workers.contract.documents import TaskConfig
from workers.host.sources import Source


class KeepOutput(Protocol):
    def __call__(
        self,
        path: Path,
        role: str = "",
        kind: str = TABLE,
        *,
        alignment: str | None = None,
        types: Mapping[str, str] | None = None,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class LeastRows:
    """The fewest rows of which results may tell anything: as this party's policy says, or the greatest of all parties'
    (:mod:`workers.computing.minimum`). 0 for any number."""

    intersection: int = 0
    group: int = 0


@dataclass(slots=True)
class Context:
    """A run as its executor sees it."""

    party: str
    parties: list[str]
    task: TaskConfig
    #: This party's inputs by role; "" is its entry in data_sources.
    sources: Mapping[str, Source]
    #: Private directory, removed when the run ends.
    workdir: Path
    #: Reports progress, 0 to 1. Call it equally often at all parties: it collects garbage now and then.
    progress: Callable[[float], None] = lambda fraction: None
    #: Keeps a finished file as this party's output of a role ("" is its entry in outputs) and a kind. A table has an
    #: alignment: that of the table it was made of, or a new one. It may have types of columns, if its maker knows them
    #: better than the file and this party's tables show them.
    keep_output: KeepOutput = lambda path, role="", kind=TABLE, *, alignment=None, types=None: None
    #: Name of the run, the same at all parties.
    run_name: str = ""
    #: Live devices by name, such as ``spu``.
    devices: dict[str, Any] = field(default_factory=dict)
    #: Documents of the devices.
    documents: dict[str, Any] = field(default_factory=dict)
    #: As this party's policy says.
    least_rows: LeastRows = LeastRows()
    #: Warnings for those who read the result.
    warnings: list[str] = field(default_factory=list)

    def new_alignment(self, role: str = "") -> str:
        """Return a new alignment, the same at all parties, for tables that this run puts in a new order."""
        return f"{self.run_name}/{role}" if role else self.run_name

    @property
    def source(self) -> Source:
        """Return this party's entry in ``data_sources``."""
        return self.sources[""]

    def source_of(self, role: str) -> Source | None:
        """Return this party's input of the role: from ``further_sources``, otherwise from ``data_sources``; None if it
        has none."""
        return self.sources.get(role) or self.sources.get("")

    @property
    def input_path(self) -> Path:
        """Return the path of this party's input table."""
        return self.source.path
