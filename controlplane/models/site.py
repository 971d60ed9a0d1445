"""This installation: which environment it is, and how strict its checks are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, get_args

from django.db import models
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from controlplane.models.versioned import Versioned
from workers.contract.catalogue import Security

PRODUCTION: Security = "production"


class Site(Versioned):
    """This installation: which environment it is, and how strict its checks of security are. One row, or none yet."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    environment = models.CharField(
        max_length=40, blank=True, help_text=_("Name of the environment, shown on every page, such as dev or prod.")
    )
    security = models.CharField(
        max_length=20,
        choices=[(tier, tier) for tier in get_args(Security)],
        default=PRODUCTION,
        help_text=_("production: all security checks apply. trial: some are off; for test data only."),
    )

    class Meta:
        verbose_name = "environment"
        verbose_name_plural = "environment"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="there_is_one_site")]

    def __str__(self) -> str:
        return self.environment or "this site"

    @classmethod
    def involving(cls, rows: QuerySet[Any], parties: Collection[str], wholly: bool = False) -> QuerySet[Any]:
        return rows  # its name and tier are on every page

    def involved(self) -> None:
        return None  # all that are checked by its tier

    @classmethod
    def current(cls) -> Site:
        return cls.objects.first() or cls()
