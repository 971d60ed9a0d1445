"""Parses the entries of a party's stream. Anybody at the party may have written the bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, ValidationError, field_validator

from controlplane.documents.storable import unstorable
from workers.contract.errors import AlgorithmError
from workers.contract.events import FAILURE, MOST_PIECES, PIECE_SIZE, SUCCESS
from workers.contract.keys import stream_of
from workers.contract.problems import problems_of

#: Fields of a large event that are longer than this, in characters of JSON, are not kept in the history.
KEPT_OF_A_FIELD = 4096
#: The largest event in one entry, in bytes: parties send larger ones in pieces.
ENTRY_LIMIT = 2 * PIECE_SIZE
#: Years of a party's clock that are believed. Times at the ends of the calendar cannot be converted to another zone.
FIRST_YEAR, LAST_YEAR = 2000, 2200


class OfARun(BaseModel):
    """Names the run that a message is about, and the event's place among the run's events; unknown keys are dropped."""

    task_request_id: UUID
    party: str = Field(max_length=32)
    attempt: int = Field(ge=1, lt=2**31)
    sequence: int = Field(ge=1, lt=2**31)

    @property
    def run(self) -> tuple[UUID, int, str]:
        return self.task_request_id, self.attempt, self.party


class EventMessage(OfARun):
    """An event as a party sends it."""

    status: Literal["RUNNING", "SUCCESS", "FAILURE", "RETRY"]
    timestamp: datetime
    worker_container: str = Field(default="", max_length=200)
    data: dict[str, Any] = Field(default_factory=dict)
    #: Size in bytes, as measured here.
    size: int = 0

    @field_validator("timestamp")
    @classmethod
    def check_timestamp(cls, timestamp: datetime) -> datetime:
        if timestamp.tzinfo is None:
            raise ValueError("has no zone")
        if not FIRST_YEAR <= timestamp.year < LAST_YEAR:
            return datetime.now(timezone.utc)  # the event counts, whatever its party's clock says
        return timestamp

    @property
    def stage(self) -> str:
        return str(self.data.get("stage", ""))[:32]

    def for_the_history(self) -> dict[str, Any]:
        """Return the data without large fields: the party run holds the result, and the database should hold it
        once."""
        if self.size <= PIECE_SIZE:
            return self.data
        kept = {}
        for name, value in self.data.items():
            length = len(json.dumps(value))
            elsewhere = "; the result of this party's run holds it" if name == "result" else ""
            kept[name] = value if length <= KEPT_OF_A_FIELD else f"left out: {length:,} characters{elsewhere}"
        return kept


class PieceHeader(OfARun):
    """Says which part of which event a piece is."""

    number: int = Field(ge=1, le=MOST_PIECES)
    of: int = Field(ge=2, le=MOST_PIECES)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an event that is too large for one entry of a stream."""

    header: PieceHeader
    text: bytes


def read_json(raw: bytes, limit: int) -> Any:
    """Return the JSON that a party wrote. Raises ValueError or RecursionError."""
    if len(raw) > limit:
        raise ValueError(f"it is longer than {limit:,} bytes")
    # PostgreSQL takes no NUL character in text or JSON
    return json.loads(raw, object_hook=_without_nul, parse_constant=str)


def _without_nul(item: dict[str, Any]) -> dict[str, Any]:
    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("\0", "")
        return [clean(v) for v in value] if isinstance(value, list) else value

    return {key.replace("\0", ""): clean(value) for key, value in item.items()}


class Unusable(Exception):
    """An entry is nothing that a party would send; the text says why."""


def parse_event(stream: str, raw: bytes, limit: int = ENTRY_LIMIT) -> EventMessage:
    """Return the event. A verdict that no database can store becomes a failure, so that the execution ends.

    Raises Unusable if it is no event, is larger than ``limit`` bytes, or names another party than the stream's.
    """
    with usable(EventMessage):
        content = read_json(raw, limit)
        message = EventMessage.model_validate(content).model_copy(update={"size": len(raw)})
        if stream_of(message.party) != stream:
            raise Unusable("it names another party than its stream")
        problem = next(unstorable(content), None)
        if problem and message.status not in (SUCCESS, FAILURE):
            raise Unusable(str(problem))
    if problem is None:
        return message
    why = f"the control plane cannot store what {message.party} reported at its end: {str(problem)[:300]}"
    stage = "cleanup" if message.data.get("stage") == "cleanup" else "task_execution"
    data = {"stage": stage, "error": why, "error_type": AlgorithmError.__name__}
    return message.model_copy(update={"status": FAILURE, "data": data, "worker_container": ""})


def parse_piece(stream: str, fields: Mapping[bytes, bytes]) -> Piece:
    """Return the piece of an event. Raises Unusable if it is none, or names another party than the stream's."""
    with usable(PieceHeader):
        header = PieceHeader.model_validate(read_json(fields[b"piece"], 1000))
        text = fields.get(b"text", b"")
        if stream_of(header.party) != stream:
            raise Unusable("it names another party than its stream")
        if header.number > header.of or not 0 < len(text) <= PIECE_SIZE:
            raise Unusable("its number or its length is wrong")
    return Piece(header, text)


@contextmanager
def usable(model: type[BaseModel]) -> Iterator[None]:
    """Say in words what is wrong with what a party wrote. ``model``: what it is meant to be. Raises Unusable."""
    try:
        yield
    except ValidationError as error:
        raise Unusable("; ".join(map(str, problems_of(error, model)))[:500]) from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise Unusable("it is no JSON") from None
    except ValueError as error:
        raise Unusable(str(error)[:500]) from None
