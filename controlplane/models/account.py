"""What the console keeps of a user beside Django's own: the time zone, links to set a password, what to be told."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from controlplane.models.schedule import check_time_zone


class Notice(models.TextChoices):
    """What a user may be told of."""

    OWN_FAILED = "own_failed", _("An execution that you submitted fails")
    OWN_ENDED = "own_ended", _("An execution that you submitted succeeds or is cancelled")
    FAILED = "failed", _("Any execution that you may see fails")
    APPROVAL = "approval", _("An execution awaits the approval of a party")
    PARTY_AWAY = "party_away", _("A party has had no live worker for a minute")
    DRIFT = "drift", _("A dataset is not as registered, or cannot be read")
    COORDINATOR = "coordinator", _("No coordinator was running for a while")


class Channel(models.TextChoices):
    """How a user may be told."""

    CONSOLE = "console", _("Console")
    EMAIL = "email", _("E-mail")
    WEBHOOK = "webhook", _("Webhook")


class Account(models.Model):
    """Settings of one user. It is made when it is first needed."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="account"
    )
    time_zone = models.CharField(
        max_length=63, blank=True, validators=[check_time_zone], help_text=_("Such as Europe/Berlin; UTC if empty.")
    )
    language = models.CharField(
        max_length=20, blank=True, help_text=_("Such as zh-hans; as the browser asks if empty.")
    )
    link_number = models.PositiveIntegerField(
        default=0, help_text=_("How many links to set a password were made: the newest alone is valid.")
    )

    subscriptions = models.JSONField(
        default=dict,
        blank=True,
        help_text=_("What the user is told of, and how: kind of notice to a list of channels."),
    )
    webhook_url = models.CharField(max_length=500, blank=True)
    webhook_secret = models.TextField(blank=True, help_text=_("Key of the signatures, encrypted."))

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"account of {self.user}"

    @classmethod
    def of(cls, user: Any) -> Account:
        """Return the account of a user; makes it if there is none."""
        return getattr(user, "account", None) or cls.objects.get_or_create(user=user)[0]


class Outlet(models.Model):
    """How far a user's notifications have got by a channel that leads out of the console."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="outlets")
    channel = models.CharField(max_length=10, choices=Channel.choices)
    tries = models.PositiveSmallIntegerField(default=0, help_text=_("Tries that failed, one after the other."))
    due_at = models.DateTimeField(default=timezone.now, help_text=_("Nothing is sent before."))
    sent_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True, help_text=_("Of the latest try."))

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["user", "channel"], name="a_user_has_a_channel_once")]

    def __str__(self) -> str:
        return f"{self.get_channel_display()} to {self.user}"
