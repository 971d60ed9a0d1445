"""Writes executions and pipeline runs that are about to be removed to a file, as JSON lines."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import ForeignKey, Model

from executions.coordinator.retention import Kind
from executions.models import Execution, NodeRun, PipelineRun
from workers.contract.secrets import masked

#: What zlib is told to write gzip's format.
GZIP = 31


class Export:
    """A new file of JSON lines, compressed if its name ends in ``.gz``.

    What :meth:`write` returned for is on the disk. If the disk is full, it raises OSError, and the file ends after the
    last of these. Each call writes a member of its own, so that what was written is readable whatever comes after.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError, also if the file exists."""
        self.path = path
        self.lines = 0
        self._file: IO[bytes] = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", 0)
        self._end = 0
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def __enter__(self) -> Export:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if not self.lines:
            self.path.unlink(missing_ok=True)  # nothing was old: no file says so as well as an empty one

    def write(self, kind: Kind, keys: Sequence[Any]) -> None:
        """Write the rows if they are of a kind that is exported. Raises OSError."""
        if kind.model not in LINES:
            return
        packed = zlib.compressobj(wbits=GZIP) if self.path.suffix == ".gz" else None
        number = 0
        try:
            for line in LINES[kind.model](keys):
                text = json.dumps(line, cls=Encoder, separators=(",", ":")).encode() + b"\n"
                self._put(packed.compress(text) if packed else text)
                number += 1
            if packed:
                self._put(packed.flush())
            os.fsync(self._file.fileno())
        except OSError:
            # A part of a line would be taken for damage
            os.ftruncate(self._file.fileno(), self._end)
            self._file.seek(self._end)
            raise
        self._end = self._file.tell()
        self.lines += number

    def _put(self, content: bytes) -> None:
        while content:  # a file without a buffer may take a part of it, as when a disk fills up
            content = content[self._file.write(content) :]


class Encoder(DjangoJSONEncoder):
    """Writes times to the microsecond, and what is no JSON as text."""

    def default(self, value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else super().default(value)


def _fields(row: Model, *without: str) -> dict[str, Any]:
    """Return a row's fields by name; a foreign key as the name of what it refers to."""
    found = {}
    for field in row._meta.concrete_fields:
        if field.name not in without:
            value = getattr(row, field.name)
            found[field.name] = str(value) if isinstance(field, ForeignKey) and value is not None else value
    return found


def _executions(keys: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for key in keys:  # one at a time: each may have thousands of events, and a result of megabytes
        row = Execution.objects.select_related("task", "submitted_by").filter(pk=key).first()
        if row is not None:  # else another process has removed it
            yield {"kind": "execution", **record_of(row)}


def record_of(row: Execution) -> dict[str, Any]:
    """Return all that is stored of an execution, secrets masked; :class:`Encoder` writes it as JSON."""
    checks = row.preflights.select_related("requested_by").order_by("requested_at")
    return _fields(row, "node", "documents") | {
        "documents": masked(row.documents),
        "runs": [_fields(run, "execution") for run in row.runs.select_related("party")],
        "changes": [_fields(change, "execution") for change in row.changes.select_related("by")],
        "events": [_fields(event, "execution") for event in row.events.all()],
        "preflights": [
            _fields(check, "execution")
            | {"documents": masked(check.documents) if check.documents else None}
            | {"checks": [_fields(part, "preflight") for part in check.checks.select_related("party")]}
            for check in checks
        ],
    }


def _pipeline_runs(keys: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for row in (
        PipelineRun.objects.filter(pk__in=keys).select_related("pipeline", "submitted_by").order_by("created_at")
    ):
        nodes = row.nodes.select_related("task").prefetch_related("executions").order_by("position")
        yield {"kind": "pipeline run", **_fields(row)} | {
            "nodes": [_node(node) for node in nodes],
            "changes": [_fields(change, "run") for change in row.changes.select_related("by")],
        }


def _node(node: NodeRun) -> dict[str, Any]:
    every = [made.pk for made in sorted(node.executions.all(), key=lambda made: made.created_at)]
    return _fields(node, "run", "documents", "execution") | {
        "documents": masked(node.documents),
        "execution": node.execution_id,
        "executions": every,
    }


LINES = {Execution: _executions, PipelineRun: _pipeline_runs}
