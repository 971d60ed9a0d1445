"""Applies reports of parties that are no events of a run: pre-flight checks, the schemas of their datasets, and what
outputs they have.

Reports are not trusted: a report counts only for the party whose stream it came by.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import transaction
from django.utils import timezone
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from redis.exceptions import RedisError
from simple_history.utils import bulk_create_with_history

from controlplane.audit.record import record
from controlplane.documents.storable import unstorable
from controlplane.models import ALIGNMENT_LENGTH, COLUMN_TYPES, Dataset, NotTaken, Party, Publication
from executions.coordinator.approvals import note_decision
from executions.coordinator.isolation import warn
from executions.coordinator.messages import Unusable, read_json, usable
from executions.coordinator.named_outputs import named_outputs
from executions.coordinator.settle import give_up
from executions.models import PartyCheck, PartyRun
from executions.redis import call_off, redis_connection
from executions.states import RunStatus
from workers.contract import reports
from workers.contract.alignment import DECLARED
from workers.contract.connection import trouble
from workers.contract.documents import column_problems
from workers.contract.errors import ERRORS, NetworkError, is_link
from workers.contract.events import REPORT_LIMIT
from workers.contract.keys import answers_to
from workers.contract.problems import problems_of

log = logging.getLogger(__name__)

#: Seconds for which an answer is kept: longer than a host waits for it.
ANSWER_KEPT_SECONDS = 300


class CheckResult(BaseModel):
    check: str = Field(max_length=32)
    error: str = Field(default="", max_length=4000)
    error_type: str = Field(default="", max_length=64)


class PreflightReport(BaseModel):
    """A report of pre-flight checks. Without ``checks`` it only says that they are still going on."""

    preflight: UUID
    worker: str = Field(default="", max_length=200)
    checks: list[CheckResult] | None = Field(default=None, max_length=50)
    facts: dict[str, Any] = Field(default_factory=dict)


class TableReport(BaseModel):
    columns: dict[str, str] | None = None
    rows: int | None = Field(default=None, ge=0, lt=2**63)
    error: str = Field(default="", max_length=reports.PROBLEM_LENGTH)
    #: Only alignments that party.toml declares: all others are made by runs.
    alignment: str | None = Field(default=None, pattern=f"^{DECLARED}", max_length=ALIGNMENT_LENGTH)

    @field_validator("columns")
    @classmethod
    def check_names(cls, columns: dict[str, str] | None) -> dict[str, str] | None:
        if wrong := column_problems(columns or ()):
            raise ValueError("; ".join(wrong))
        return columns


class DatasetsReport(BaseModel):
    """Tables of the party's party.toml; in the last report of a publication, the names of all of them."""

    publication: UUID
    #: By the clock of the host, in seconds since 1970; the same in all reports of a publication.
    told_at: float = Field(ge=0, lt=1e11)
    #: Each table is parsed by itself, so that a wrong one does not stop the others.
    datasets: dict[str, Any] = Field(default_factory=dict, max_length=reports.MOST_DATASETS)
    names: list[str] | None = None

    @model_validator(mode="after")
    def check_content(self) -> DatasetsReport:
        if not self.model_fields_set & {"datasets", "names"}:
            raise ValueError("says nothing of datasets")
        return self


class OutputsReport(BaseModel):
    """Outputs that a host has, to be told which of them are still named."""

    publication: UUID
    outputs: list[str] = Field(max_length=reports.MOST_DATASETS)


class RefusalReport(BaseModel):
    """A job that the party's worker refused to begin."""

    job: str = Field(max_length=200)
    reason: str = Field(max_length=500)


class ApprovalReport(BaseModel):
    """What people at the party decided about what would run there."""

    publication: UUID
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    #: Those that had asked for it: said again later, it is of no other.
    executions: list[UUID] = Field(max_length=reports.MOST_EXECUTIONS)
    approved: bool
    by: str = Field(max_length=reports.NAME_LENGTH)
    reason: str = Field(default="", max_length=reports.REASON_LENGTH)
    #: Of an approval: for how many executions, and for how long.
    uses: int = Field(default=1, ge=1, le=1_000_000)
    days: float | None = Field(default=None, gt=0, le=3660)

    @property
    def terms(self) -> str:
        """Return for how much an approval holds, in words."""
        if not self.approved or self.days is None:
            return ""
        return f"for {self.uses:,} execution{'s' * (self.uses > 1)}, within {self.days:g} days"


Report = PreflightReport | DatasetsReport | OutputsReport | RefusalReport | ApprovalReport
MODELS: dict[str, type[Report]] = {
    reports.PREFLIGHT: PreflightReport,
    reports.DATASETS: DatasetsReport,
    reports.OUTPUTS: OutputsReport,
    reports.REFUSAL: RefusalReport,
    reports.APPROVAL: ApprovalReport,
}
KINDS = tuple(MODELS)


def apply(party: str, kind: str, raw: bytes) -> None:
    """Apply a report. Raises Unusable if it is none, with nothing done."""
    model = MODELS[kind]
    with usable(model):
        content = read_json(raw, REPORT_LIMIT)
        if problem := next(unstorable(content), None):
            raise Unusable(str(problem))
        report = model.model_validate(content)
    if isinstance(report, PreflightReport):
        _apply_preflight(party, report)
        return
    if isinstance(report, ApprovalReport):
        waited = note_decision(
            party, report.digest, report.executions, report.approved, report.by, report.reason, report.terms
        )
        verdict = reports.WENT_ON if waited else reports.NONE_WAITED
        _answer(answers_to(party, str(report.publication)), {report.digest: {"verdict": verdict}})
        return
    if isinstance(report, RefusalReport):
        # No more than that it did not begin: it is tried again, as after any other fault of the way there
        run = PartyRun.objects.filter(job_id=report.job, party__name=party, status=RunStatus.DISPATCHED).first()
        if run:
            give_up(run, f"the worker of {party} refused its job: {report.reason}", NetworkError)
        return
    if isinstance(report, OutputsReport):
        named = named_outputs(party, report.outputs)
        told = {name: {"verdict": reports.NAMED if name in named else reports.UNNAMED} for name in report.outputs}
        _answer(answers_to(party, str(report.publication)), told)
        return
    verdicts = _apply_datasets(party, report, hashlib.sha256(raw).hexdigest()[:32])
    if verdicts:
        _answer(answers_to(party, str(report.publication)), verdicts)


def _apply_preflight(party: str, report: PreflightReport) -> None:
    now = timezone.now()
    fields: dict[str, Any] = {"heard_at": now, "worker": report.worker}
    if report.checks is not None:
        results = [
            c.model_dump() | ({"error_type": "AlgorithmError"} if c.error and c.error_type not in ERRORS else {})
            for c in report.checks
        ]
        fields |= {"answered_at": now, "results": results, "facts": report.facts}
    with transaction.atomic():
        # The first answer counts: two workers may have taken the same request
        open_checks = PartyCheck.objects.filter(preflight=report.preflight, party__name=party, answered_at=None)
        if not open_checks.update(**fields):
            warn(f"{party} reported pre-flight checks that nobody waits for")
            return
        if report.checks is not None:
            _note_dataset(party, report.facts.get("dataset"), {c.check: c.error for c in report.checks}, now)
    if any(result["error"] and not is_link(result["error_type"]) for result in fields.get("results", ())):
        call_off(report.preflight)


def _note_dataset(party: str, facts: Any, errors: Mapping[str, str], now: datetime) -> None:
    """Store what the checks found out about the host's dataset, so that the list of datasets shows the drift."""
    if not isinstance(facts, dict) or not isinstance(facts.get("name"), str):
        return
    try:
        table = TableReport.model_validate({key: facts[key] for key in ("columns", "rows") if key in facts})
    except ValidationError:  # its checks count anyway
        return
    problem = "" if table.columns else errors.get("dataset", "")
    if not (table.columns or problem):
        return
    if dataset := Dataset.objects.filter(party__name=party, name=facts["name"]).first():
        told = _told(table, problem, now)
        dataset.reported_columns = told["reported_columns"]
        Dataset.objects.filter(pk=dataset.pk).update(**told, differs=dataset.columns_differ)


def _told(table: TableReport, problem: str, now: datetime) -> dict[str, Any]:
    columns = table.columns and {c: t if t in COLUMN_TYPES else "str" for c, t in table.columns.items()}
    return {
        "reported_columns": columns,
        "reported_rows": table.rows,
        "reported_problem": problem[:500],
        "alignment": table.alignment or "",
        "reported_at": now,
    }


def _apply_datasets(party: str, report: DatasetsReport, digest: str) -> dict[str, dict[str, str]]:
    """Register new tables, and note how known ones look now. Returns a verdict for each table. Raises Unusable for a
    publication that does not count, such as an old one."""
    try:
        with transaction.atomic():
            owner = Party.objects.select_for_update(of=("self",), no_key=True).filter(name=party).first()
            # One that is read again, after a coordinator was killed, says nothing new
            if owner is None or not Publication.take(owner, report.told_at, digest):
                return {}
            return _note_tables(owner, report)
    except NotTaken as error:
        refused = {"verdict": reports.REFUSED, "problem": str(error)[: reports.PROBLEM_LENGTH]}
        if report.datasets:
            _answer(answers_to(party, str(report.publication)), dict.fromkeys(report.datasets, refused))
        raise Unusable(str(error)) from None


def _note_tables(owner: Party, report: DatasetsReport) -> dict[str, dict[str, str]]:
    """Store what a report tells of the tables of its party, which is locked. Returns the verdicts."""
    now = timezone.now()
    known = {d.name: d for d in owner.datasets.all()}
    before = {name: _told_of(dataset) for name, dataset in known.items()}
    verdicts = {}
    for name, raw in report.datasets.items():
        verdict, problem = _judge_table(owner, known, name, raw, now)
        verdicts[name] = {"verdict": verdict, "problem": problem}
    # All at once: a party may have a thousand tables, and the others' events wait meanwhile
    if new := [d for name, d in known.items() if name not in before]:
        bulk_create_with_history(new, Dataset)
        columns = {dataset.name: dataset.columns for dataset in new}
        record("register", f"datasets of {owner}", content=columns, details=", ".join(columns), actor=f"party {owner}")
    told = [d for d in known.values() if d.name in report.datasets and d.name in before and not d.produced_by]
    Dataset.objects.filter(pk__in=[d.pk for d in told]).update(reported_at=now)
    for dataset in told:
        if (now_told := _told_of(dataset)) != before[dataset.name]:  # most tables are as they were
            Dataset.objects.filter(pk=dataset.pk).update(**now_told)
    if report.names is not None:
        gone = {d.pk for name, d in known.items() if not d.produced_by} - {
            known[n].pk for n in report.names if n in known
        }
        Dataset.objects.filter(pk__in=gone).update(
            alignment="",
            reported_columns=None,
            reported_rows=None,
            reported_at=now,
            reported_problem="the party's host has no such dataset: it is not in its party.toml",
            differs=False,
        )
    return verdicts


def _told_of(dataset: Dataset) -> dict[str, Any]:
    """Return what reports have told of a dataset, but for when."""
    return {
        "reported_columns": dataset.reported_columns,
        "reported_rows": dataset.reported_rows,
        "reported_problem": dataset.reported_problem,
        "alignment": dataset.alignment,
        "differs": dataset.columns_differ,
    }


def _judge_table(owner: Party, known: dict[str, Dataset], name: str, raw: Any, now: datetime) -> tuple[str, str]:
    """Set what is told of a known table, or add a new one to the known ones; nothing is stored. Returns the verdict,
    and what is wrong or differs."""
    dataset = known.get(name)
    if dataset and dataset.produced_by:
        return reports.REFUSED, "an execution's output has this name; rename one of the two"
    problem = ""
    try:
        table = TableReport.model_validate(raw)
    except ValidationError as error:
        problem = "; ".join(map(str, problems_of(error, TableReport)))[: reports.PROBLEM_LENGTH]
        table = TableReport(error=problem)
    told = _told(table, table.error, now)
    if dataset:
        for field, value in told.items():
            setattr(dataset, field, value)
        if table.error:
            return reports.REFUSED, table.error
        lines = "; ".join(dataset.drift)[: reports.PROBLEM_LENGTH]
        return (reports.DIFFERS if lines else reports.AS_REGISTERED), lines
    if table.error or not table.columns:
        return reports.REFUSED, table.error or "it has no columns"
    if len(known) >= reports.MOST_DATASETS:
        return reports.REFUSED, f"the control plane keeps at most {reports.MOST_DATASETS:,} datasets of a party"
    new = Dataset(party=owner, name=name, columns=told["reported_columns"], **told)
    try:
        new.clean_fields(exclude=["party"])  # it is there, and locked
        new.clean()
    except DjangoValidationError as error:
        return reports.REFUSED, " ".join(error.messages)[: reports.PROBLEM_LENGTH]
    known[name] = new
    return reports.REGISTERED, ""


def _answer(key: str, verdicts: Mapping[str, Any]) -> None:
    """Answer the host. Best effort: its report is applied, and a host that gets no answer says so."""
    try:
        with redis_connection().pipeline(transaction=True) as pipeline:
            pipeline.rpush(key, json.dumps(verdicts))
            pipeline.expire(key, ANSWER_KEPT_SECONDS)
            pipeline.execute()
    except (RedisError, OSError) as error:
        log.warning("a publication of datasets was not answered: %s", trouble(error))
