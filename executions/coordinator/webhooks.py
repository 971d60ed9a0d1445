"""Prepares what is posted to webhooks: an event for each change of an execution that a webhook wants. Says, too, what
owners may do with their webhooks, for the API and the console."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import F
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from controlplane.access import Access
from controlplane.audit.record import record
from controlplane.audit.signals import name_of
from controlplane.environment import environment
from executions.coordinator.posting import BOTH_KEYS_FOR, new_keys
from executions.models import PostStatus, Webhook, WebhookDelivery
from executions.models.webhook import TEST, NotPossible, event_type
from executions.permissions import VIEW

#: Webhooks that there may be at all, and of one user.
MOST_WEBHOOKS, MOST_OF_ONE = 2000, 20


# --- what owners do


def may_have_webhooks(access: Access, *, changing: bool = False) -> bool:
    """Return whether somebody may have webhooks, and change them: who may view executions may have them posted. A token
    needs the scope to manage, as a webhook outlives it."""
    return access.may(VIEW) and (not changing or access.manages)


def check_room(owner: Any) -> None:
    """Raise NotPossible if a user has as many webhooks as one may have."""
    if Webhook.objects.filter(owner=owner.pk).count() >= MOST_OF_ONE:
        raise NotPossible(f"You have {MOST_OF_ONE} webhooks already; remove one first.")


def problem_of_name(owner: Any, name: str, but: Webhook | None = None) -> str:
    """Return what is wrong with the name of a webhook; empty if nothing is. ``but``: the webhook, if there is one."""
    rows = Webhook.objects.filter(owner=owner.pk, name=name)
    is_taken = (rows.exclude(pk=but.pk) if but else rows).exists()
    return "you have a webhook of this name already; give it another one" if is_taken else ""


def with_version(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what changes along with these fields of a webhook. Switched on again, it is no longer said why it was
    switched off."""
    return {"version": F("version") + 1} | ({"disabled_because": ""} if given.get("enabled") else {})


@sensitive_variables()
def make_key(hook: Webhook) -> str:
    """Give a webhook a new key, and return it as the receiver needs it. For a day the former one signs, too. Raises
    NotPossible if the webhook was changed meanwhile."""
    kept, shown, public = new_keys(hook.signature)
    changes = {
        "secret": kept, "public_key": public, "former_secret": hook.secret,
        "former_until": timezone.now() + BOTH_KEYS_FOR, "version": hook.version + 1,
    }  # fmt: skip
    # Of two at once, one: the key of the other would be shown, and sign nothing
    if not Webhook.objects.filter(pk=hook.pk, version=hook.version).update(**changes):
        raise NotPossible("The webhook was changed meanwhile, and nothing was done; read it again, then try again.")
    hook.refresh_from_db()
    record("make key", name_of(hook))
    return shown


def post_again(delivery: WebhookDelivery) -> None:
    """Have an event posted again that was sent or given up, with the same id. Raises NotPossible if it is still to be
    posted."""
    now = timezone.now()
    again = {"status": PostStatus.PENDING, "due_at": now, "since": now, "ended_at": None}
    rows = WebhookDelivery.objects.filter(pk=delivery.pk).exclude(status=PostStatus.PENDING)
    if not rows.update(**again):
        raise NotPossible("It is still to be posted; the log says when it is tried next.")
    delivery.refresh_from_db()


def prepare_test(hook: Webhook) -> WebhookDelivery:
    """Store an event that tries a webhook, and return it. Raises NotPossible if the webhook is switched off."""
    if not hook.enabled:
        raise NotPossible("The webhook is switched off; switch it on to try it.")
    message = uuid4()
    body = _event(message, TEST, timezone.now(), "", {"webhook": hook.name})
    return WebhookDelivery.objects.create(webhook=hook, message=message, event_type=TEST, body=body)


# --- what is posted


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
