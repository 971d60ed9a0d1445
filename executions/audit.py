"""What of executions and pipeline runs leaves an audit entry: what people and services did to them."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save

from controlplane.audit.record import current_request, record
from executions.models import Execution, PipelineChange, Preflight, StateChange


def connect() -> None:
    """Have it noted from now on."""
    post_save.connect(_changed, StateChange, dispatch_uid="audit")
    post_save.connect(_changed, PipelineChange, dispatch_uid="audit")
    post_save.connect(_asked, Preflight, dispatch_uid="audit")


def _changed(instance: Any, created: bool, **_: Any) -> None:
    """Note a change of state that somebody made; not what follows from it."""
    if not created or not (instance.by_id or current_request() or not instance.from_status):
        return
    submission = instance.execution if isinstance(instance, StateChange) else instance.run
    what = "execution" if isinstance(submission, Execution) else "pipeline run"
    content = submission.documents if isinstance(submission, Execution) and not instance.from_status else None
    action = instance.to_status.lower() if instance.from_status else "submit"
    record(action, f"{what} {submission.pk}", content=content, details=instance.why, by=instance.by)


def _asked(instance: Preflight, created: bool, **_: Any) -> None:
    if created and instance.documents is not None:
        subject = f"pre-flight checks {instance.pk}"
        record("ask for checks", subject, content=instance.documents, details=instance.name, by=instance.requested_by)
