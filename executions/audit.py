"""What of executions and pipeline runs leaves an audit entry: what people and services did to them."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save

from controlplane.audit.record import current_request, record
from controlplane.audit.signals import follow
from executions.models import Execution, PipelineChange, Preflight, StateChange, Webhook


def connect() -> None:
    """Have it noted from now on."""
    post_save.connect(_changed, StateChange, dispatch_uid="audit")
    post_save.connect(_changed, PipelineChange, dispatch_uid="audit")
    post_save.connect(_asked, Preflight, dispatch_uid="audit")
    follow(Webhook)


def _changed(instance: Any, created: bool, **_: Any) -> None:
    """Note a change of state that somebody made; not what follows from it."""
    if not created or not (instance.by_id or current_request() or not instance.from_status):
        return
    is_execution, is_first = isinstance(instance, StateChange), not instance.from_status
    key = instance.execution_id if is_execution else instance.run_id
    content = None
    if is_execution and is_first:
        content = Execution.objects.filter(pk=key).values_list("documents", flat=True).first()
    subject = f"{'execution' if is_execution else 'pipeline run'} {key}"
    action = "submit" if is_first else instance.to_status.lower()
    record(action, subject, content=content, details=instance.why, by=instance.by)


def _asked(instance: Preflight, created: bool, **_: Any) -> None:
    if created and instance.documents is not None:
        subject = f"pre-flight checks {instance.pk}"
        record("ask for checks", subject, content=instance.documents, details=instance.name, by=instance.requested_by)
