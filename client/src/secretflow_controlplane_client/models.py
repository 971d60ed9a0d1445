"""What the control plane answers. A newer one may tell more: fields that are not named here are kept."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Statuses of executions that have ended.
SUCCESS, FAILURE, CANCELLED = "SUCCESS", "FAILURE", "CANCELLED"
ENDED = frozenset({SUCCESS, FAILURE, CANCELLED})
#: What begins the ``type`` of a problem; its kind follows.
URN = "urn:secretflow-controlplane:problem:"


class Model(BaseModel):
    """Base of all that is answered."""

    model_config = ConfigDict(extra="allow")


class FieldProblem(Model):
    """One problem of a request, at its path, such as ``spu_config.runtime_config.protocol``."""

    path: str | None = None
    code: str = ""
    detail: str


class Problem(Model):
    """Problem details (RFC 9457)."""

    type: str
    title: str = ""
    status: int = 0
    detail: str = ""
    errors: list[FieldProblem] = []
    request_id: str = ""

    @property
    def kind(self) -> str:
        """Return what callers decide by, such as ``invalid``."""
        return self.type.removeprefix(URN)


class ExecutionError(Model):
    """The first real cause of a failure."""

    type: str = ""
    party: str = ""
    stage: str = ""
    message: str = ""

    def __str__(self) -> str:
        where = ", ".join(filter(None, [self.party, self.stage and f"stage {self.stage}"]))
        return ": ".join(filter(None, [where, self.message or self.type]))


class StateChange(Model):
    """A change of an execution's state."""

    at: datetime
    from_status: str = ""
    to_status: str
    why: str = ""
    by: str | None = None


class PartyRun(Model):
    """What one party does for an execution, in the latest attempt."""

    party: str
    attempt: int = 0
    status: str
    stage: str = ""
    progress: float = 0.0
    devices: list[str] = []
    worker: str = ""
    error: str = ""
    error_type: str = ""
    caused_by_peer: bool = False
    result: Any = None
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    execution_seconds: float | None = None


class Result(Model):
    """What an execution found. Which of these there are, and what else, depends on its task type
    (docs/task-types.md)."""

    warnings: list[Any] = []
    outputs: dict[str, Any] = {}
    intersection_count: dict[str, Any] = {}
    metrics: dict[str, Any] = {}

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as it was answered."""
        return self.model_dump(mode="json", exclude_unset=True)


class Execution(Model):
    """An execution. Without the permission to view executions, ``id``, ``url`` and ``status`` are all that is told."""

    id: str
    status: str
    url: str = ""
    name: str = ""
    task: str | None = None
    task_type: str = ""
    parties: list[str] = []
    stage: str = ""
    progress: float = 0.0
    attempt: int = 0
    waiting_for: str = ""
    labels: dict[str, str] = {}
    deadline: datetime | None = None
    queued_at: datetime | None = None
    priority: int | None = None
    network_retries: int | None = None
    resource_retries: int | None = None
    dispatch_limit_seconds: int | None = None
    run_limit_seconds: int | None = None
    has_warnings: bool = False
    error: ExecutionError | None = None
    created_at: datetime | None = None
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    #: When a retry is due.
    due_at: datetime | None = None
    retries: dict[str, Any] = {}
    submitted_by: str | None = None
    request_id: str = ""
    pipeline_run: str | None = None
    node: str | None = None
    result: Any = None
    runs: list[PartyRun] = []
    changes: list[StateChange] = []
    #: Latest checks by the parties' hosts.
    preflight: dict[str, Any] | None = None
    documents: dict[str, Any] = {}
    events_url: str = ""
    result_url: str = ""
    logs_url: str = ""
    cancel_url: str = ""
    admin_url: str = ""

    @property
    def has_ended(self) -> bool:
        """Return whether nothing more will happen to it."""
        return self.status in ENDED

    @property
    def title(self) -> str:
        """Return what people call it."""
        return self.name or self.task or self.task_type or self.id


class Event(Model):
    """What a party reported."""

    party: str
    attempt: int = 0
    sequence: int = 0
    status: str = ""
    stage: str = ""
    timestamp: datetime | None = None
    received_at: datetime | None = None
    worker: str = ""
    data: Any = None


class LogLine(Model):
    """A line of a party's log, as far as the party's policy lets it out."""

    party: str
    attempt: int = 0
    at: datetime
    level: str = ""
    source: str = ""
    text: str = ""


class _Position(Model):
    #: How far the stream has been read: ``last_event_id`` for another stream that goes on here.
    position: str = ""


class _Told(_Position):
    """What a stream tells of an execution. ``id`` is the same if it is told twice."""

    id: str
    execution: str
    name: str = ""
    task_type: str = ""
    parties: list[str] = []
    labels: dict[str, str] = {}


class StateTold(_Told):
    """A stream tells that the state of an execution has changed."""

    kind: Literal["state"] = "state"
    status: str
    from_status: str = ""
    at: datetime
    why: str = ""


class EventTold(_Told, Event):
    """A stream tells what a party has reported."""

    kind: Literal["event"] = "event"


class Gap(_Position):
    """A stream tells that too much has happened meanwhile to be told again: read the lists."""

    kind: Literal["gap"] = "gap"
    detail: str = ""


#: What streams tell.
Told = Annotated[StateTold | EventTold | Gap, Field(discriminator="kind")]


class DocumentProblem(Model):
    """What a dry run found wrong."""

    path: str = ""
    wrong: str = ""
    right: str = ""


class DryRun(Model):
    """What would happen if this were submitted now."""

    valid: bool
    verdict: str = ""
    problems: list[DocumentProblem] = []
    waits_for: str = ""
    parties: list[dict[str, Any]] = []
    documents: dict[str, Any] = {}


class Resource(Model):
    """Something that is registered. ``etag`` says which version of it this is."""

    id: int
    name: str = ""
    version: int = 0
    etag: str = Field(default="", exclude=True)

    def __getitem__(self, field: str) -> Any:
        """Return a field by its name in the API."""
        return getattr(self, field)
