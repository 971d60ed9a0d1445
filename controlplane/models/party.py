"""Parties: who takes part, and where their workers listen."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import QuerySet
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlplane.models.versioned import Versioned
from workers.contract.documents import PARTY_NAME
from workers.contract.secrets import read_public_key
from workers.contract.signing import check_signing_key


def check_public_key(value: str) -> None:
    """Raise ValidationError unless the text is a public key."""
    try:
        read_public_key(value)
    except ValueError:
        raise ValidationError(
            gettext("This is no public key; enter what `manage.py party keys` printed on the party's host, x25519:...")
        ) from None


def check_signing_keys(value: str) -> None:
    """Raise ValidationError unless the text is public signing keys, separated by blanks."""
    for key in value.split():
        try:
            check_signing_key(key)
        except ValueError:
            raise ValidationError(
                gettext(
                    "{key} is no signing key; enter what `manage.py party keys` printed on the party's "
                    "host, ed25519:... Separate several by a blank."
                ).format(key=key[:60])
            ) from None


class Party(Versioned):
    """An organisation that takes part, with the host on which its workers listen for the other parties."""

    name = models.CharField(
        max_length=32,
        unique=True,
        validators=[
            RegexValidator(
                PARTY_NAME.replace("$", r"\Z"), _("Use a-z, 0-9, _ and -, beginning with a letter, such as alice.")
            )
        ],
        help_text=_("Short name, such as alice: its workers then start as `manage.py rqworker alice`."),
    )
    description = models.CharField(max_length=200, blank=True)
    address = models.CharField(
        max_length=253,
        validators=[
            RegexValidator(
                r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)\Z",
                _("Give a host name or an IP address alone, IPv6 in brackets."),
            )
        ],
        help_text=_("Host name or IP address at which the other parties reach this party's workers."),
    )
    port_first = models.PositiveIntegerField(
        _("first port"),
        validators=[MinValueValidator(1024), MaxValueValidator(65535)],
        help_text=_(
            "Ports are leased to executions from this range; open it to the other parties. From 1024 to 65535."
        ),
    )
    port_last = models.PositiveIntegerField(
        _("last port"),
        validators=[MinValueValidator(1024), MaxValueValidator(65535)],
        help_text=_(
            "An execution takes a port for the cluster and one for the SPU while it runs: twenty are enough for "
            "ten at once. Up to 65535."
        ),
    )
    public_key = models.CharField(
        max_length=100,
        blank=True,
        validators=[check_public_key],
        help_text=_(
            "Seals secrets that are meant for this party: what `manage.py party keys` printed on its host. "
            "Needed for tasks whose documents have secrets."
        ),
    )

    signing_keys = models.CharField(
        max_length=600,
        blank=True,
        validators=[check_signing_keys],
        help_text=_(
            "The signing key that `manage.py party keys` printed on its host; two, separated by a blank, while "
            "one replaces the other. Without it nothing of what this party's workers report counts, and nothing is "
            "sent to them."
        ),
    )

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "parties"

    def __str__(self) -> str:
        return self.name

    @classmethod
    def involving(cls, rows: QuerySet[Any], parties: Collection[str], wholly: bool = False) -> QuerySet[Any]:
        return rows.filter(name__in=parties)

    def involved(self) -> set[str]:
        return {self.name}

    def clean(self) -> None:
        if self.pk and Party.objects.filter(pk=self.pk).exclude(name=self.name).exists():
            # Documents, the party's own party.toml, its queue and its history use the name
            raise ValidationError({"name": gettext("A party keeps its name; register another party instead.")})
        if not (self.port_first and self.port_last):
            return
        if self.port_last < self.port_first:
            raise ValidationError(
                {
                    "port_last": gettext("The last port comes before the first, {port_first}.").format(
                        port_first=self.port_first
                    )
                }
            )
        if self.port_last == self.port_first:
            raise ValidationError(
                {"port_last": gettext("Each execution takes two ports: give a range of two or more.")}
            )
        neighbours = Party.objects.filter(
            address=self.address, port_first__lte=self.port_last, port_last__gte=self.port_first
        ).exclude(pk=self.pk)
        if other := neighbours.first():
            whose = other.name if self.within is None or other.name in self.within else "another party"
            raise ValidationError(
                {
                    "port_first": gettext(
                        "The range overlaps that of {whose} ({port_first}-{port_last}) on the same address: "
                        "choose ports of its own."
                    ).format(whose=whose, port_first=other.port_first, port_last=other.port_last)
                }
            )
