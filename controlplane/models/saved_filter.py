"""Filters of lists that users keep under a name."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

#: How many a user may keep, over all lists.
MOST_SAVED = 50


class SavedFilter(models.Model):
    """What a user has chosen in a list of the admin, kept under a name. It is the query of the list's address alone:
    wherever it leads, it leads to this list."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_filters")
    list = models.CharField(max_length=100, help_text=_("Model of the list, such as executions.execution."))
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000, help_text=_("As the address has it, without the question mark."))

    class Meta:
        default_permissions = ()
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["user", "list", "name"], name="a_saved_filter_has_a_name_of_its_own")
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.list}"
