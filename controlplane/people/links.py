"""Links by which a user sets a password: signed, valid once and for a limited time, the newest alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db.models import F
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from controlplane.audit.record import record
from controlplane.audit.signals import name_of
from controlplane.models import Account
from controlplane.people.mail import is_configured, send

_TEXT = """{who},

{by} has {reason} at {host}. Set your password here:

{address}

The link works once, until {until}. If you did not expect this message, ignore it.
"""


class _Generator(PasswordResetTokenGenerator):
    """Django's, whose tokens end with a password, a sign-in, a new e-mail address, and also with the next link."""

    key_salt = "controlplane.people.links"

    def _make_hash_value(self, user: Any, timestamp: int) -> str:
        number = Account.objects.filter(user=user).values_list("link_number", flat=True).first()
        return f"{super()._make_hash_value(user, timestamp)} {number}"


token_generator = _Generator()


@dataclass(frozen=True, slots=True)
class Link:
    """A link, until when it is valid, and what became of the message with it."""

    address: str
    until: datetime
    mailed_to: str = ""
    mail_problem: str = ""


def make_link(request: HttpRequest, user: Any, *, is_new: bool) -> Link:
    """Return a new link for a user, and send it if there is a mail server and an address; links that were made before
    end. Must not be called in a transaction: a mail server may take seconds."""
    account = Account.of(user)
    Account.objects.filter(pk=account.pk).update(link_number=F("link_number") + 1)
    key = urlsafe_base64_encode(force_bytes(user.pk))
    path = reverse("set_password", args=[key, token_generator.make_token(user)])
    address = request.build_absolute_uri(path)  # refused for a host that is not in ALLOWED_HOSTS
    until = timezone.now() + timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)
    record("invite" if is_new else "new link", name_of(user), details=user.email)
    if not (is_configured() and user.email):
        return Link(address, until)
    reason = "invited you to the SecretFlow control plane" if is_new else "made a new link for your password"
    text = _TEXT.format(
        who=user.get_full_name() or user.get_username(),
        by=request.user.get_username(),
        reason=reason,
        host=request.get_host(),
        address=address,
        until=f"{timezone.localtime(until):%Y-%m-%d %H:%M %Z}",
    )
    return Link(address, until, user.email, send("Your password for the SecretFlow control plane", text, [user.email]))
