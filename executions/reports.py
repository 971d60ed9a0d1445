"""What parties report that is no event of a run: pre-flight checks and the schemas of their datasets.

Not trusted, as events are not: a report counts for the party whose stream it came by, and no other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import transaction
from django.utils import timezone
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from controlplane.models import COLUMN_TYPES, Dataset, Party
from controlplane.storable import unstorable
from executions.messages import read_json
from executions.models import PartyCheck
from executions.preflight import call_off
from workers import datasets, preflight
from workers.documents import DATASET_NAME
from workers.errors import ERRORS, is_link
from workers.events import REPORT_LIMIT

log = logging.getLogger(__name__)

DATASETS_LIMIT = 1000


class CheckResult(BaseModel):
    check: str = Field(max_length=32)
    error: str = Field(default="", max_length=4000)
    error_type: str = Field(default="", max_length=64)


class PreflightReport(BaseModel):
    """Without ``checks`` it only says that the checks go on."""

    preflight: UUID
    worker: str = Field(default="", max_length=200)
    checks: list[CheckResult] | None = Field(default=None, max_length=50)
    facts: dict[str, Any] = Field(default_factory=dict)


class TableReport(BaseModel):
    columns: dict[Annotated[str, StringConstraints(min_length=1, max_length=200)], str] | None = None
    rows: int | None = Field(default=None, ge=0, lt=2**63)
    error: str = Field(default="", max_length=500)


class DatasetsReport(BaseModel):
    """All tables that the party's party.toml registers."""

    datasets: dict[Annotated[str, StringConstraints(pattern=DATASET_NAME)], TableReport] = Field(
        max_length=DATASETS_LIMIT
    )


def apply(party: str, kind: str, raw: bytes) -> None:
    """Record a report, if it is one."""
    try:
        content = read_json(raw, REPORT_LIMIT)
        if problem := next(unstorable(content), None):
            raise ValueError(problem.wrong)
        if kind == preflight.REPORT:
            _apply_preflight(party, PreflightReport.model_validate(content))
        else:
            _apply_datasets(party, DatasetsReport.model_validate(content))
    except (ValueError, RecursionError) as error:
        reason = "malformed" if isinstance(error, ValidationError) else str(error)[:100]
        log.warning("a %s report of %s was dropped: %s", kind, party, reason)


KINDS = (preflight.REPORT, datasets.REPORT)


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
        # The first answer counts: a request may have been given to two workers
        open_checks = PartyCheck.objects.filter(preflight=report.preflight, party__name=party, answered_at=None)
        if not open_checks.update(**fields):
            log.warning("%s reported pre-flight checks that nobody waits for", party)
            return
        if report.checks is not None:
            _note_dataset(party, report.facts.get("dataset"), {c.check: c.error for c in report.checks}, now)
    if any(result["error"] and not is_link(result["error_type"]) for result in fields.get("results", ())):
        call_off(report.preflight)


def _note_dataset(party: str, facts: Any, errors: Mapping[str, str], now: datetime) -> None:
    """Keep what a host found out about its dataset on the way: the list of datasets shows the drift."""
    if not isinstance(facts, dict) or not isinstance(facts.get("name"), str):
        return
    try:
        table = TableReport.model_validate({key: facts[key] for key in ("columns", "rows") if key in facts})
    except ValidationError:  # its checks count all the same
        return
    problem = "" if table.columns else errors.get("dataset", "")
    if table.columns or problem:
        Dataset.objects.filter(party__name=party, name=facts["name"]).update(**_told(table, problem, now))


def _told(table: TableReport, problem: str, now: datetime) -> dict[str, Any]:
    columns = table.columns and {c: t if t in COLUMN_TYPES else "str" for c, t in table.columns.items()}
    return {
        "reported_columns": columns,
        "reported_rows": table.rows,
        "reported_problem": problem[:500],
        "reported_at": now,
    }


def _register(dataset: Dataset) -> None:
    try:
        dataset.full_clean()
    except DjangoValidationError as error:
        log.warning("%s was published and not registered: %s", dataset, "; ".join(error.messages)[:500])
    else:
        dataset.save()


def _apply_datasets(party: str, report: DatasetsReport) -> None:
    now = timezone.now()
    with transaction.atomic():
        owner = Party.objects.select_for_update(of=("self",)).filter(name=party).first()
        if owner is None:
            return
        known = {d.name: d for d in owner.datasets.filter(produced_by=None)}
        taken = set(owner.datasets.exclude(produced_by=None).values_list("name", flat=True))
        for name, table in report.datasets.items():
            told = _told(table, table.error, now)
            if name in known:
                Dataset.objects.filter(pk=known[name].pk).update(**told)
            elif table.columns and name not in taken:
                _register(Dataset(party=owner, name=name, columns=told["reported_columns"], **told))
        gone = [d.pk for name, d in known.items() if name not in report.datasets]
        Dataset.objects.filter(pk__in=gone).update(
            reported_columns=None,
            reported_rows=None,
            reported_at=now,
            reported_problem="the party's host has no such dataset: it is not in its party.toml",
        )
