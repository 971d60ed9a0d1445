"""What an executor is handed: one run as it sees it."""

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


@dataclass(slots=True)
class Context:
    """One run as its executor sees it."""

    party: str
    parties: list[str]
    task: TaskConfig
    #: All that this party reads, by role; "" is its entry in data_sources.
    sources: Mapping[str, Source]
    #: Private directory, removed when the run ends.
    workdir: Path
    #: Reports progress, 0 to 1. To be called equally often at all parties: it collects garbage now and then.
    progress: Callable[[float], None] = lambda fraction: None
    #: Keeps a finished file as this party's output: of this role ("" is its entry in outputs), of this kind. Of a
    #: table, the alignment of its rows: that of what it was made of, or a new one; and the types of its columns, where
    #: its maker knows them better than the file and this party's tables show them.
    keep_output: KeepOutput = lambda path, role="", kind=TABLE, *, alignment=None, types=None: None
    #: The run, by a name that all parties know it by.
    run_name: str = ""
    #: Live devices by name, such as ``spu``.
    devices: dict[str, Any] = field(default_factory=dict)
    #: Their documents.
    documents: dict[str, Any] = field(default_factory=dict)
    #: What people should know who read the result.
    warnings: list[str] = field(default_factory=list)

    def new_alignment(self, role: str = "") -> str:
        """Return the alignment of tables that this run puts in an order of its own, the same at all parties."""
        return f"{self.run_name}/{role}" if role else self.run_name

    @property
    def source(self) -> Source:
        """This party's entry in ``data_sources``."""
        return self.sources[""]

    def source_of(self, role: str) -> Source | None:
        """Return what this party reads in this role: of ``further_sources``, otherwise of ``data_sources``, if it is
        there."""
        return self.sources.get(role) or self.sources.get("")

    @property
    def input_path(self) -> Path:
        """This party's input table."""
        return self.source.path
