"""What leaves an audit entry: changes of what is registered, of users and of what they may do, and every sign-in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_save, pre_delete
from knox.models import AuthToken
from simple_history.signals import post_create_historical_record

from controlplane.audit.record import current_request, record, record_refusal
from controlplane.language import in_english
from controlplane.models import PartyGrant, TokenTerms

#: Of a row, not worth or not fit for the trail.
LEFT_OUT = {"last_login", "password", "secret", "former_secret"}
WORDS = {"+": "create", "~": "change", "-": "delete"}
#: What m2m_changed says after a change.
CHANGED = {"post_add": "add to", "post_remove": "take from", "post_clear": "clear"}


def connect() -> None:
    """Have all of this noted from now on. Deletions are noted before they happen, while fields can still be read."""
    post_create_historical_record.connect(_registered, dispatch_uid="audit")
    for model in (User, Group, PartyGrant):
        follow(model)
    post_save.connect(_token_made, TokenTerms, dispatch_uid="audit")
    pre_delete.connect(_token_ended, AuthToken, dispatch_uid="audit")
    for through in (User.groups.through, User.user_permissions.through, Group.permissions.through):
        m2m_changed.connect(_related, through, dispatch_uid=f"audit {through}")
    user_logged_in.connect(_signed_in, dispatch_uid="audit")
    user_logged_out.connect(_signed_out, dispatch_uid="audit")
    user_login_failed.connect(_sign_in_failed, dispatch_uid="audit")


def follow(model: type[Model]) -> None:
    """Have it noted when rows of a model without a history are added, changed or deleted."""
    post_save.connect(_saved, model, dispatch_uid=f"audit {model}")
    pre_delete.connect(_deleted, model, dispatch_uid=f"audit {model}")


def name_of(row: Model) -> str:
    """Return what an entry calls a row."""
    with in_english():  # it is stored: in English, whatever its user reads
        return f"{row._meta.verbose_name} {row}"


def _content(row: Model) -> dict[str, Any]:
    found = {f.attname: f.value_from_object(row) for f in row._meta.concrete_fields if f.name not in LEFT_OUT}
    # What the database has computed is not known here
    return {name: value for name, value in found.items() if not hasattr(value, "resolve_expression")}


def _registered(instance: Model, history_instance: Any, history_user: Any, **_: Any) -> None:
    action = WORDS[history_instance.history_type]
    record(
        action,
        name_of(instance),
        content=_content(instance),
        details=history_instance.history_change_reason or "",
        by=history_user,
    )


def _saved(instance: Model, created: bool, raw: bool = False, update_fields: Any = None, **_: Any) -> None:
    if raw or (update_fields and set(update_fields) <= {"last_login"}):
        return
    record("create" if created else "change", name_of(instance), content=_content(instance))


def _deleted(instance: Model, **_: Any) -> None:
    record("delete", name_of(instance), content=_content(instance))


def _token_made(instance: TokenTerms, created: bool, raw: bool = False, **_: Any) -> None:
    if created and not raw:
        user = instance.token.user
        said = {"name": instance.name, "scopes": instance.scopes, "parties": instance.parties}
        # By a command it is made for the user, and not by the user
        by = user if current_request() else None
        record("make token", f"token {instance.name} of {user}", content=said, by=by)


def _token_ended(instance: AuthToken, **_: Any) -> None:
    record("end token", f"token of {instance.user}")


def _related(instance: Model, action: str, model: Any, pk_set: Any, reverse: bool, **_: Any) -> None:
    if action in CHANGED:
        with in_english():
            what = sorted(str(row) for row in model.objects.filter(pk__in=pk_set or ()))
            details = f"{CHANGED[action]} {model._meta.verbose_name_plural}"
        record("change", name_of(instance), content=what, details=details)


def _signed_in(user: Any, **_: Any) -> None:
    record("sign in", name_of(user), by=user)


def _signed_out(user: Any = None, **_: Any) -> None:
    if user is not None:
        record("sign out", name_of(user), by=user)


def _sign_in_failed(credentials: Any, **_: Any) -> None:
    record_refusal(f"sign-in as {str(credentials.get('username', ''))[:150]}", actor="nobody")
