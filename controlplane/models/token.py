"""What an API token may do: by its scopes, for which parties, and until when."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from knox.models import AuthToken

from controlplane.models.party_set import Parties


class Scope(models.TextChoices):
    READ = "read", _("Read")
    SUBMIT = "submit", _("Submit")
    MANAGE = "manage", _("Manage")

    @classmethod
    def of(cls, permission: str) -> Scope:
        """Return the scope that a permission of Django belongs to, such as ``executions.add_execution``."""
        app, _, codename = permission.partition(".")
        if codename.startswith("view_"):
            return cls.READ
        return cls.SUBMIT if app == "executions" else cls.MANAGE


def _name_of(token: AuthToken) -> str:
    """Return what pages and the log call a token: knox would show its hash."""
    terms = getattr(token, "terms", None)
    return f"{terms.name} ({token.token_key[:8]})" if terms else token.token_key


AuthToken.add_to_class("__str__", _name_of)
AuthToken._meta.verbose_name, AuthToken._meta.verbose_name_plural = _("API token"), _("API tokens")

#: Days until a token expires, if nobody says otherwise, and at most.
USUAL_DAYS, MOST_DAYS = 90, 365
#: The last use of a token is noted once in this time, so that reading takes no write.
USE_NOTED_EVERY = timedelta(minutes=1)


class TokenTerms(models.Model):
    """Limits of an API token, below those of its user. A token without them may do nothing."""

    token = models.OneToOneField(AuthToken, on_delete=models.CASCADE, primary_key=True, related_name="terms")
    name = models.CharField(max_length=100, help_text=_("What uses the token, such as nightly reports."))
    scopes = models.JSONField(default=list)
    parties = models.JSONField(
        null=True, blank=True, help_text=_("Names of the parties that it is limited to; all of its user's if empty.")
    )
    last_used_at = models.DateTimeField(null=True, blank=True, help_text=_("Accurate to a minute."))

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name

    @classmethod
    def make_token(
        cls,
        user: Any,
        name: str,
        scopes: Collection[str] = tuple(Scope.values),
        parties: Parties = None,
        lifetime: timedelta = timedelta(days=USUAL_DAYS),
    ) -> tuple[AuthToken, str]:
        """Return a new token and its text, which is stored nowhere. ``parties``: None for all of the user's."""
        with transaction.atomic():
            token, text = AuthToken.objects.create(user, expiry=lifetime)
            kept = None if parties is None else sorted(parties)
            cls.objects.create(token=token, name=name, scopes=sorted(scopes), parties=kept)
        return token, text

    def note_use(self) -> None:
        """Note that it was used just now, unless that was noted less than a minute ago."""
        now = timezone.now()
        if self.last_used_at and now - USE_NOTED_EVERY < self.last_used_at <= now:
            return
        before = models.Q(last_used_at__isnull=True) | models.Q(last_used_at=self.last_used_at)
        TokenTerms.objects.filter(before, pk=self.pk).update(last_used_at=now)
        self.last_used_at = now
