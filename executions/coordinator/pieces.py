"""Puts large events together. A party sends them in pieces, which may come in any order, more than once, or never."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from uuid import UUID

from executions.coordinator.dead_letters import set_aside
from executions.coordinator.messages import EventMessage, Piece, Unusable, parse_event
from executions.models import EventPiece, ExecutionEvent, PartyRun
from executions.states import RUN_ENDED
from workers.contract.events import EVENT_LIMIT, MOST_PIECES
from workers.contract.keys import stream_of

log = logging.getLogger(__name__)

RunKey = tuple[UUID, int, str]


def put_together(pieces: Iterable[Piece], runs: Mapping[RunKey, PartyRun]) -> list[EventMessage]:
    """Keep these pieces, and return the events that are complete now, removing their pieces. Call it in a transaction
    that locks the runs: if two coordinators bring the last two pieces, one of them then sees both. Pieces of ended
    runs, or of events that were applied, are dropped.
    """
    by_run: dict[RunKey, list[Piece]] = {}
    for piece in pieces:
        run = runs.get(piece.header.run)
        if run and run.status not in RUN_ENDED:
            by_run.setdefault(piece.header.run, []).append(piece)
    events = []
    for key, found in by_run.items():
        for sequence in sorted(_keep(runs[key], found)):
            event = _complete(runs[key], sequence)
            if event and event.run == key and event.sequence == sequence:
                events.append(event)
    return events


def _keep(run: PartyRun, found: list[Piece]) -> set[int]:
    """Store new pieces. Returns the sequence numbers of their events."""
    sequences = {piece.header.sequence for piece in found}
    applied = set(
        ExecutionEvent.objects.filter(
            execution=run.execution_id, party=run.party.name, attempt=run.attempt, sequence__in=sequences
        ).values_list("sequence", flat=True)
    )
    there = set(EventPiece.objects.filter(run=run).values_list("sequence", "number"))
    new = {
        (piece.header.sequence, piece.header.number): piece for piece in found if piece.header.sequence not in applied
    }
    fresh = [piece for place, piece in new.items() if place not in there]
    # A party can fill the database with no more than one event's worth
    if len(fresh) > (room := MOST_PIECES - len(there)):
        log.warning("%s sent more pieces of events for %s than one event may have", run.party.name, run)
        fresh = fresh[:room]
    EventPiece.objects.bulk_create(
        EventPiece(run=run, sequence=p.header.sequence, number=p.header.number, of=p.header.of, content=p.text)
        for p in fresh
    )
    return {piece.header.sequence for piece in fresh}


def _complete(run: PartyRun, sequence: int) -> EventMessage | None:
    rows = EventPiece.objects.filter(run=run, sequence=sequence)
    numbers = list(rows.order_by("number").values_list("number", "of"))
    if numbers != [(number, len(numbers)) for number in range(1, len(numbers) + 1)]:
        return None
    content = b"".join(bytes(part) for part in rows.order_by("number").values_list("content", flat=True))
    rows.delete()
    try:
        return parse_event(stream_of(run.party.name), content, EVENT_LIMIT)
    except Unusable as error:
        set_aside(run.party.name, "event", content, str(error))
        return None


def forget_unfinished() -> bool:
    """Remove the incomplete events of runs that have ended. Returns whether there were any."""
    return bool(EventPiece.objects.filter(run__status__in=RUN_ENDED).delete()[0])
