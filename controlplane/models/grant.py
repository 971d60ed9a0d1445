"""Which parties' things a user may see and run."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from controlplane.models.party import Party
from controlplane.models.party_set import Parties


class PartyGrant(models.Model):
    """Lets a user, or the members of a group, work for a party or for all parties. What they may do there is said by
    their permissions."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="party_grants"
    )
    group = models.ForeignKey(
        "auth.Group", on_delete=models.CASCADE, null=True, blank=True, related_name="party_grants"
    )
    party = models.ForeignKey(Party, on_delete=models.CASCADE, null=True, blank=True, related_name="grants")
    all_parties = models.BooleanField(default=False, help_text=_("Also parties that are registered later."))

    class Meta:
        verbose_name = _("grant of a party")
        verbose_name_plural = _("grants of parties")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(user__isnull=True) ^ models.Q(group__isnull=True),
                name="a_grant_is_for_a_user_or_a_group",
            ),
            models.CheckConstraint(
                condition=models.Q(party__isnull=True, all_parties=True)
                | models.Q(party__isnull=False, all_parties=False),
                name="a_grant_is_of_one_party_or_of_all",
                violation_error_message=_("Choose a party or tick all parties, not both."),
            ),
            models.UniqueConstraint(fields=["user", "party"], name="a_user_is_granted_a_party_once"),
            models.UniqueConstraint(fields=["group", "party"], name="a_group_is_granted_a_party_once"),
        ]

    def __str__(self) -> str:
        return f"{self.party or 'all parties'} to {self.user or self.group}"

    @classmethod
    def parties_of(cls, user: int) -> Parties:
        """Return the parties that a user has, by grants to the user and to the user's groups. Takes one query."""
        mine = models.Q(user=user) | models.Q(group__user=user)
        rows = list(cls.objects.filter(mine).order_by().values_list("all_parties", "party__name"))
        return None if any(everything for everything, _ in rows) else frozenset(name for _, name in rows)
