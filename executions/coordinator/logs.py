"""Keeps the lines of parties' logs. They are of little weight: what is too much, or wrong, is left out."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.db.models import Q, Sum
from pydantic import Field, field_validator

from controlplane.documents.storable import unstorable
from executions.coordinator.dead_letters import set_aside
from executions.coordinator.isolation import alone, warn
from executions.coordinator.messages import OfARun, Unusable, read_json, usable
from executions.models import LogChunk, PartyRun
from workers.contract.keys import stream_of
from workers.contract.logs import (
    BYTES_OF_A_RUN,
    LINES_OF_A_RUN,
    MESSAGE_LIMIT,
    MOST_LINES,
    SOURCE_LENGTH,
    TEXT_LENGTH,
    Line,
)

RunKey = tuple[UUID, int, str]
#: The last moment that is believed, in seconds since 1970; and the greatest level.
LAST_MOMENT, GREATEST_LEVEL = 7_000_000_000.0, 50


class LogMessage(OfARun):
    """Lines of a run's log as a party sends them."""

    lines: list[Line] = Field(max_length=MOST_LINES)
    dropped: int = Field(default=0, ge=0, lt=2**31)
    #: Size in bytes, as measured here.
    size: int = 0

    @field_validator("lines")
    @classmethod
    def check_lines(cls, lines: list[Line]) -> list[Line]:
        return [
            (
                min(max(at, 0.0), LAST_MOMENT) if at == at else 0.0,
                min(max(level, 0), GREATEST_LEVEL),
                source[:SOURCE_LENGTH],
                text[:TEXT_LENGTH],
            )
            for at, level, source, text in lines
        ]


def parse_log(stream: str, raw: bytes) -> LogMessage:
    """Return what a party says of its log. Raises Unusable if it is none, or names another party than the stream's."""
    with usable(LogMessage):
        content = read_json(raw, 2 * MESSAGE_LIMIT)
        if problem := next(unstorable(content), None):
            raise Unusable(str(problem))
        message = LogMessage.model_validate(content).model_copy(update={"size": len(raw)})
        if stream_of(message.party) != stream:
            raise Unusable("it names another party than its stream")
    return message


def keep(messages: Sequence[LogMessage]) -> None:
    """Store lines of logs, each message once, in one transaction; one that cannot be stored is set aside. Raises errors
    that concern everything."""
    if not messages or _kept(messages) is None:
        return
    for message in messages:
        if reason := _kept([message]):
            set_aside(message.party, "log", message.model_dump_json().encode(), reason)


def _kept(messages: Sequence[LogMessage]) -> str | None:
    with alone("lines of logs could not be kept together") as fault, transaction.atomic():
        _keep(messages)
    return fault.reason or None


def _keep(messages: Sequence[LogMessage]) -> None:
    keys = {message.run for message in messages}
    named = {"execution__in": {key[0] for key in keys}}
    there = set(PartyRun.objects.filter(**named).values_list("execution", "attempt", "party__name"))
    kept = LogChunk.objects.filter(Q(party__in={key[2] for key in keys}), **named).order_by()
    sums = kept.values_list("execution", "attempt", "party").annotate(Sum("count"), Sum("size"))
    counted = {(execution, attempt, party): (lines, size) for execution, attempt, party, lines, size in sums}
    fresh = []
    for message in messages:
        if message.run not in there:
            warn(f"{message.party} sent lines of a log of a run it does not have")
            continue
        lines, size = counted.get(message.run, (0, 0))
        lines, size = lines + len(message.lines), size + message.size
        if lines > LINES_OF_A_RUN or size > BYTES_OF_A_RUN:
            warn(f"{message.party} sent more lines of the log of {message.task_request_id} than are kept of a run")
            continue
        counted[message.run] = lines, size
        fresh.append(
            LogChunk(
                execution_id=message.task_request_id,
                party=message.party,
                attempt=message.attempt,
                sequence=message.sequence,
                lines=message.lines,
                count=len(message.lines),
                size=message.size,
                dropped=message.dropped,
            )
        )
    LogChunk.objects.bulk_create(fresh, ignore_conflicts=True)
