"""Prepares what is posted to webhooks: an event for each change of an execution that a webhook wants."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from django.core.serializers.json import DjangoJSONEncoder
from django.urls import reverse
from django.utils import timezone

from controlplane.access import Access
from controlplane.environment import environment
from executions.models import Webhook, WebhookDelivery
from executions.models.webhook import TEST, event_type
from executions.permissions import VIEW

#: Webhooks that there may be at all.
MOST_WEBHOOKS = 2000


def prepare(rows: Iterable[dict[str, Any]]) -> None:
    """Store an event for each webhook that wants one of these changes, in the caller's transaction, in their order."""
    hooks = list(Webhook.objects.filter(enabled=True, owner__is_active=True).select_related("owner")[:MOST_WEBHOOKS])
    if not hooks:
        return
    seen_by = {hook.owner_id: Access(hook.owner) for hook in hooks}
    may_view = {owner: access.may(VIEW) for owner, access in seen_by.items()}
    found = []
    for row in rows:
        kind = event_type(row["to_status"])
        for hook in hooks:
            if may_view[hook.owner_id] and _wants(hook, kind, row) and _sees(hook, seen_by[hook.owner_id], row):
                found.append(_made(hook, kind, row))
    WebhookDelivery.objects.bulk_create(found, batch_size=500)


def prepare_test(hook: Webhook) -> WebhookDelivery:
    """Store an event that tries a webhook, and return it."""
    message = uuid4()
    body = _event(message, TEST, timezone.now(), "", {"webhook": hook.name})
    return WebhookDelivery.objects.create(webhook=hook, message=message, event_type=TEST, body=body)


def _wants(hook: Webhook, kind: str, row: dict[str, Any]) -> bool:
    labels = row["execution__labels"]
    return (
        (not hook.events or kind in hook.events)
        and (not hook.party or hook.party in row["execution__parties"])
        and all(labels.get(key) == value for key, value in hook.labels.items())
    )


def _sees(hook: Webhook, access: Access, row: dict[str, Any]) -> bool:
    parties = set(row["execution__parties"])
    limited = hook.limited_to is None or not parties.isdisjoint(hook.limited_to)
    return limited and (access.parties is None or not access.parties.isdisjoint(parties))


def _made(hook: Webhook, kind: str, row: dict[str, Any]) -> WebhookDelivery:
    message, execution = uuid4(), row["execution"]
    error = {name: row[f"execution__error{field}"] for name, field in _ERROR.items()}
    data = {
        "execution": execution,
        "url": environment.site_url.rstrip("/") + reverse("execution-detail", args=[execution]),
        "status": row["to_status"],
        "name": row["execution__name"],
        "task_type": row["execution__task_type"],
        "parties": row["execution__parties"],
        "labels": row["execution__labels"],
        "attempt": row["execution__attempt"],
        "request_id": row["execution__request_id"],
        "error": error if any(error.values()) else None,
    }
    body = _event(message, kind, row["at"], str(execution), data)
    return WebhookDelivery(webhook=hook, message=message, execution=execution, event_type=kind, body=body)


_ERROR = {"type": "_type", "party": "_party", "stage": "_stage", "message": ""}


def _event(message: Any, kind: str, at: Any, subject: str, data: dict[str, Any]) -> str:
    """Return an event as CloudEvents 1.0 has it."""
    source = environment.site_url.rstrip("/") or "secretflow-control-plane"
    event = {"specversion": "1.0", "id": message, "source": source, "type": kind, "time": at, "data": data}
    event |= {"datacontenttype": "application/json"} | ({"subject": subject} if subject else {})
    return json.dumps(event, cls=DjangoJSONEncoder)
