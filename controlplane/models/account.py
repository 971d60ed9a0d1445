"""What the console keeps of a user beside Django's own: the time zone, links to set a password, what to be told."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models

from controlplane.models.schedule import check_time_zone


class Account(models.Model):
    """Settings of one user. It is made when it is first needed."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="account"
    )
    time_zone = models.CharField(
        max_length=63, blank=True, validators=[check_time_zone], help_text="Such as Europe/Berlin; UTC if empty."
    )
    link_number = models.PositiveIntegerField(
        default=0, help_text="How many links to set a password were made: the newest alone is valid."
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"account of {self.user}"

    @classmethod
    def of(cls, user: Any) -> Account:
        """Return the account of a user; makes it if there is none."""
        return getattr(user, "account", None) or cls.objects.get_or_create(user=user)[0]
