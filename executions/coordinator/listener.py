"""Applies the events in the parties' streams to the database: each exactly once, in any order of arrival.

Redis and the parties are not trusted: an event counts only if it came by the stream of the party that it names, and if
that party has a run for that attempt.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from redis import Redis
from redis.exceptions import ResponseError

from controlplane.models import Party
from executions.coordinator import logs, reports
from executions.coordinator.dead_letters import set_aside
from executions.coordinator.isolation import EVERYTHING, alone, reason_of, warn
from executions.coordinator.messages import EventMessage, Piece, Unusable, parse_event, parse_piece
from executions.coordinator.pieces import put_together
from executions.coordinator.settle import hold, settle
from executions.coordinator.voices import Voices
from executions.models import ExecutionEvent, PartyRun, PortLease
from executions.redis import WAKE_STREAM, drop_foreign
from executions.states import RUN_ENDED, RunStatus, set_run_status
from workers.contract.connection import refusal
from workers.contract.errors import ERRORS
from workers.contract.events import EVENT, FAILURE, PIECE, RUNNING, SUCCESS
from workers.contract.keys import stream_of
from workers.contract.logs import LOG

log = logging.getLogger(__name__)

GROUP = "coordinator"
#: Events of one party run that are kept in the history; later ones count all the same.
MOST_EVENTS = 10_000

RunKey = tuple[UUID, int, str]
#: What an entry of a stream may be, by the field that has it; others only wake the coordinator.
KINDS = (EVENT, PIECE, LOG, *reports.KINDS)
#: What an entry has one of; a worker that is ready says no more than that.
_KNOWN = {*(kind.encode() for kind in KINDS), b"ready"}


class Listener:
    """Reads all parties' streams as one consumer group. Several may run; each entry goes to one of them."""

    #: How many entries of one stream are read at once, and of all streams applied: no party gets ahead of the others
    #: by sending more. If all are pieces of large events, one stream's are 5 MiB.
    BATCH, MOST_AT_ONCE = 100, 2000
    #: Seconds that a step spends on one party's reports: what is left of them is for the next step.
    REPORT_SECONDS = 0.25
    #: An entry that another consumer has read but not acknowledged for this long is taken over.
    CLAIM_AFTER_MS = 5000
    #: How long progress waits for more of it, and what ends a run for that of the other parties: applied one by one,
    #: they cost as much CPU as a short run itself.
    GATHER_MS, END_GATHER_MS = 50, 4

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self.consumer = f"{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns()}"
        self._grouped: set[str] = set()
        self._voices = Voices()
        self._claim_at = 0.0
        #: Streams of which something was read and not applied: it is read again before anything new of theirs.
        self._behind: set[str] = set()
        #: Whether the last step brought something, and nothing after which anything could begin or end.
        self.heard_progress_alone = False
        #: Counts the batches, so that each stream is the first one once.
        self._turn = 0

    def step(self, block_ms: int = 0) -> bool:
        """Apply the entries that have come, waiting up to ``block_ms`` for one. Returns whether anything came, wake-ups
        included. Raises RedisError or DatabaseError; the same entries are then read again.
        """
        self.heard_progress_alone = False
        self._voices.learn(dict(Party.objects.values_list("name", "signing_keys")))
        streams = [stream_of(party) for party in self._voices.parties] + [WAKE_STREAM]
        try:
            return self._read([stream for stream in streams if self._has_group(stream)], block_ms)
        except ResponseError as error:
            if "NOGROUP" not in str(error) and not drop_foreign(self.connection, streams, "stream"):
                raise
            # Redis lost its data; the database has all that was applied
            self._grouped.clear()
            self._behind.clear()
            return True

    def _read(self, streams: list[str], block_ms: int) -> bool:
        if not streams:
            time.sleep(block_ms / 1000)
            return False
        came = self._take_over(streams)
        behind = self._behind & set(streams)
        block = block_ms if block_ms and not behind and not came else None
        self._behind |= set(streams)  # they stay so until all that is read below has been applied
        positions: dict[Any, Any] = {stream: "0" if stream in behind else ">" for stream in streams}
        batches = self._entries(positions, block)
        if block:
            self._gather(batches, positions)
        self.heard_progress_alone = bool(batches) and not came and is_progress(batches)
        left = self._handle(batches)
        # What was read again may not have been all of it
        self._behind = left | (behind & set(batches))
        return came or bool(batches)

    def _entries(self, positions: dict[Any, Any], block_ms: int | None) -> dict[str, list[Any]]:
        answer: Any = self.connection.xreadgroup(GROUP, self.consumer, positions, count=self.BATCH, block=block_ms)
        return {name.decode(): entries for name, entries in answer if entries}

    def _gather(self, batches: dict[str, list[Any]], positions: dict[Any, Any]) -> None:
        """Add what comes in the next moment, as long as there is room for more."""
        until, came = time.monotonic() + self.GATHER_MS / 1000, batches
        while came and max(map(len, batches.values())) < self.BATCH:
            if not is_progress(came):
                until = min(until, time.monotonic() + self.END_GATHER_MS / 1000)
            if (left := int((until - time.monotonic()) * 1000)) < 1:
                return
            came = self._entries(positions, left)
            for stream, entries in came.items():
                batches.setdefault(stream, []).extend(entries)

    def _has_group(self, stream: str) -> bool:
        """Make this reader's group if it is missing. Returns whether it exists: a full Redis cannot make one, but its
        streams have to be read for it to have room again."""
        if stream in self._grouped:
            return True
        try:
            # From the beginning: what a party sent before anyone listened counts, too
            self.connection.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if refusal(error):
                if not self._finds_group(stream):
                    log.warning("%s cannot be listened to: %s", stream, refusal(error))
                    return False
            elif "BUSYGROUP" not in str(error):
                raise
        self._grouped.add(stream)
        return True

    def _finds_group(self, stream: str) -> bool:
        try:
            groups: Any = self.connection.xinfo_groups(stream)
        except ResponseError:  # the stream does not exist
            return False
        return any(group["name"] == GROUP.encode() for group in groups)

    def _take_over(self, streams: list[str]) -> bool:
        if time.monotonic() < self._claim_at:
            return False
        with self.connection.pipeline(transaction=False) as pipeline:
            for stream in streams:
                pipeline.xautoclaim(stream, GROUP, self.consumer, self.CLAIM_AFTER_MS, count=self.BATCH)
            answers = pipeline.execute()
        claimed = {stream: entries for stream, (_, entries, _) in zip(streams, answers, strict=True) if entries}
        self._behind |= set(claimed)
        self._handle(claimed)
        self._claim_at = time.monotonic() + self.CLAIM_AFTER_MS / 1000
        return bool(claimed)

    def _handle(self, batches: Mapping[str, Any]) -> set[str]:
        """Apply and acknowledge entries. Returns the streams of which some are left for the next step."""
        events: list[EventMessage] = []
        pieces: list[Piece] = []
        lines: list[logs.LogMessage] = []
        done: dict[str, list[Any]] = {}
        self._turn += 1
        streams = sorted(batches)
        turn = self._turn % max(1, len(streams))
        for stream in streams[turn:] + streams[:turn]:
            until = time.monotonic() + self.REPORT_SECONDS
            done[stream] = []
            for entry, fields in batches[stream]:
                if stream != WAKE_STREAM:
                    # One at least, or a report that takes long would never be applied
                    so_far = len(events) + len(pieces) + len(lines)
                    if so_far >= self.MOST_AT_ONCE or (done[stream] and time.monotonic() > until):
                        break
                    _sort(self._voices, stream, fields or {}, events, pieces, lines)
                done[stream].append(entry)
        apply(events, pieces)
        logs.keep(lines)
        # After the commit: a crash before this delivers the entries again, and no event is applied twice
        with self.connection.pipeline(transaction=True) as pipeline:
            for stream, ids in done.items():
                if ids:
                    pipeline.xack(stream, GROUP, *ids)
                    pipeline.xdel(stream, *ids)
            pipeline.execute()
        return {stream for stream in batches if len(done[stream]) < len(batches[stream])}


def is_progress(batches: Mapping[str, Any]) -> bool:
    """Return whether all entries look like lines of logs, or like events that neither fail a run nor are its last:
    nothing waits for them. A party that makes others look so delays them alone."""
    entries = (
        fields.get(EVENT.encode()) or fields.get(LOG.encode(), b"")
        for found in batches.values()
        for _, fields in found
        if fields
    )
    return all(raw and b'"FAILURE"' not in raw and b'"cleanup"' not in raw for raw in entries)


def _sort(
    voices: Voices,
    stream: str,
    fields: Mapping[bytes, bytes],
    events: list[EventMessage],
    pieces: list[Piece],
    lines: list[logs.LogMessage],
) -> None:
    """Apply what an entry says if it is a report; add it to the events, pieces or lines of logs if it is one of these.
    What is none of them, but should be, or is not signed by the party, is set aside."""
    party = stream.removeprefix(stream_of(""))
    if fields.keys().isdisjoint(_KNOWN):
        names = ", ".join(sorted(name.decode(errors="replace") for name in fields))
        set_aside(party, "entry", names.encode(), "it is none of what a party of this version sends")
    for kind in KINDS:
        if (raw := fields.get(kind.encode())) is None:
            continue
        try:
            voices.check(party, kind, fields)
            if kind == EVENT:
                events.append(parse_event(stream, raw))
            elif kind == PIECE:
                pieces.append(parse_piece(stream, fields))
            elif kind == LOG:
                lines.append(logs.parse_log(stream, raw))
            else:
                reports.apply(party, kind, raw)
        except EVERYTHING:
            raise
        except Exception as error:
            why = str(error) if isinstance(error, Unusable) else reason_of(error)
            set_aside(party, kind if kind in (EVENT, PIECE, LOG) else f"{kind} report", raw, why)


def apply(events: Sequence[EventMessage], pieces: Sequence[Piece] = ()) -> None:
    """Store the events, and bring party runs and executions up to date, in one transaction.

    If that fails by what the events say, each run's are applied by themselves, and then each event: one that cannot be
    applied is set aside. Raises errors that concern everything, after which all of them are still to be applied.
    """
    by_run: dict[RunKey, tuple[list[EventMessage], list[Piece]]] = {}
    for event in events:
        by_run.setdefault(event.run, ([], []))[0].append(event)
    for piece in pieces:
        by_run.setdefault(piece.header.run, ([], []))[1].append(piece)
    if not by_run or _applied(events, pieces) is None:
        return
    for own_events, own_pieces in by_run.values():
        if len(by_run) > 1 and _applied(own_events, own_pieces) is None:
            continue
        for event in sorted(own_events, key=lambda e: e.sequence):
            if reason := _applied([event], ()):
                set_aside(event.party, "event", event.model_dump_json().encode(), reason)
        for piece in own_pieces:
            if reason := _applied((), [piece]):
                set_aside(piece.header.party, "piece", piece.text, reason)


def _applied(events: Sequence[EventMessage], pieces: Sequence[Piece]) -> str | None:
    """Apply events in one transaction. Returns None, or what is wrong with them; then nothing has happened."""
    with alone("events could not be applied together") as fault, transaction.atomic():
        _apply(events, pieces)
    return fault.reason or None


def _apply(events: Sequence[EventMessage], pieces: Sequence[Piece]) -> None:
    keys = {event.run for event in events} | {piece.header.run for piece in pieces}
    # The executions first, as everywhere: whoever writes a party run holds its execution
    hold({key[0] for key in keys})
    wanted = Q(execution__in={k[0] for k in keys}, party__name__in={k[2] for k in keys})
    runs = {
        (r.execution_id, r.attempt, r.party.name): r
        for r in PartyRun.objects.select_for_update(of=("self",), no_key=True)
        .filter(wanted)
        .select_related("party")
        .order_by("pk")
    }
    by_run: dict[RunKey, list[EventMessage]] = {}
    for event in [*events, *put_together(pieces, runs)]:
        if event.run in runs:
            by_run.setdefault(event.run, []).append(event)
        else:
            warn(f"{event.party} sent an event for a run it does not have")
    ExecutionEvent.objects.bulk_create(
        [
            ExecutionEvent(
                execution_id=e.task_request_id,
                party=e.party,
                attempt=e.attempt,
                sequence=e.sequence,
                status=e.status,
                stage=e.stage,
                timestamp=e.timestamp,
                worker=e.worker_container,
                data=e.for_the_history(),
            )
            for key, found in by_run.items()
            for e in found[: _room(runs[key], found)]
        ],
        ignore_conflicts=True,
    )
    for key, found in by_run.items():
        run = runs[key]
        before = {name: getattr(run, name) for name in FOLDED}
        fold(run, found)
        # Not bulk_update, which takes longer to phrase its statement than the database for all of these
        if changed := [name for name, value in before.items() if getattr(run, name) != value]:
            run.save(update_fields=changed)
    PortLease.objects.filter(run__in=[runs[key] for key in by_run if runs[key].released_at]).delete()
    for execution_id in sorted({key[0] for key in by_run}):
        settle(execution_id)


def _room(run: PartyRun, found: Sequence[EventMessage]) -> int:
    """Return how many of these events are kept in the history: a party cannot fill the database with one run's."""
    if max(e.sequence for e in found) <= MOST_EVENTS and not run.last_sequence > MOST_EVENTS:
        return len(found)
    of_run = {"execution": run.execution_id, "party": run.party.name, "attempt": run.attempt}
    return max(0, MOST_EVENTS - ExecutionEvent.objects.filter(**of_run).count())


FOLDED = [
    "status", "stage", "progress", "devices", "worker", "last_sequence", "enqueued_at", "started_at", "ended_at",
    "released_at", "error", "error_type", "caused_by_peer", "crashed", "result", "execution_seconds",
]  # fmt: skip


def fold(run: PartyRun, events: list[EventMessage]) -> None:
    """Apply events to a run's fields. The result depends on which events there are, not on their order or
    repetition."""
    now = timezone.now()
    # Its job was in Redis, even if the coordinator that put it there died before noting it
    run.enqueued_at = run.enqueued_at or now
    for event in sorted(events, key=lambda e: e.sequence):
        data, stage = event.data, event.stage
        if event.status == RUNNING and set_run_status(run, RunStatus.RUNNING):
            run.started_at = now
        if event.sequence > run.last_sequence:
            run.last_sequence = event.sequence
            run.worker = event.worker_container
            if run.status not in RUN_ENDED and stage != "cleanup":
                run.stage = stage or run.stage
        if isinstance(progress := data.get("computation_progress"), int | float):
            run.progress = max(run.progress, min(max(float(progress), 0.0), 1.0))
        if isinstance(devices := data.get("devices_initialized"), list):
            run.devices = sorted({*run.devices, *(str(d)[:32] for d in devices[:20])})[:50]
        if event.status in (SUCCESS, FAILURE):
            _end(run, event, stage)
        if stage == "cleanup" and event.status in (SUCCESS, FAILURE):
            # The process has released everything: its slot and ports are free
            run.released_at = run.released_at or now


def _end(run: PartyRun, event: EventMessage, stage: str) -> None:
    data, now = event.data, timezone.now()
    if stage == "cleanup" and not data.get("error"):
        return  # reports only that the process released everything; the verdict comes in another event
    status = RunStatus.SUCCESS if event.status == SUCCESS else RunStatus.FAILURE
    if event.status == FAILURE and run.stop_requested_at and stage == "cleanup":
        status = RunStatus.STOPPED  # the worker reports the end of a process that we had it kill
    if not set_run_status(run, status):
        return
    if isinstance(seconds := data.get("execution_time"), int | float):
        run.execution_seconds = float(seconds)
    run.ended_at = now
    if status == RunStatus.SUCCESS:
        run.result = data["result"] if isinstance(data.get("result"), dict) else {}
    elif status == RunStatus.FAILURE and not run.error:
        kind = str(data.get("error_type", ""))
        run.error = str(data.get("error", "")).strip()[:4000] or "the party gave no reason"
        run.error_type = kind if kind in ERRORS else "AlgorithmError"
        run.caused_by_peer = bool(data.get("caused_by_peer"))
        run.crashed = bool(data.get("crashed"))
