"""Reusable documents: of the cluster, and of each device."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import QuerySet
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlplane.documents.encryption import protect
from controlplane.documents.errors import document_errors
from controlplane.models.party import Party
from controlplane.models.party_set import PartySet
from controlplane.models.versioned import Versioned, about_to_be_renamed
from workers.contract.endpoints import filled_at_dispatch
from workers.contract.problems import Problem, closest
from workers.contract.registry import further_layers
from workers.contract.validation import parse_document


class Configuration(Versioned):
    """A named, reusable document of one layer."""

    layer: Any

    name = models.CharField(max_length=100, unique=True)
    description = models.CharField(max_length=200, blank=True)
    document = models.JSONField(default=dict, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def involving(cls, rows: QuerySet[Any], parties: Collection[str], wholly: bool = False) -> QuerySet[Any]:
        return rows  # a device's settings, for whoever takes part

    def involved(self) -> set[str]:
        # found at run time: a task knows its configurations, and not the other way round
        return {party for task in self.used_by() for party in task.involved()} if self.pk else set()

    def used_by(self) -> Iterable[Any]:
        """Return the tasks that use it, each with its cluster."""
        tasks: Any = self.tasks  # type: ignore[attr-defined]
        return tasks.select_related("cluster").only("cluster__document")

    def clean(self) -> None:
        _, problems = parse_document(self.layer, self.document)
        self._settle(problems)

    def _settle(self, problems: list[Problem]) -> None:
        """Encrypt the document's secrets. Raises ValidationError with all problems."""
        if not problems:
            self.document, problems = protect(self.layer, self.document, lambda: stored_document(self))
        if problems:
            raise document_errors({"document": problems})


class ClusterConfig(Configuration):
    """Layer 1, ``sf_init_config``: who takes part and how they talk. Addresses come from the parties at dispatch."""

    layer = "sf_init_config"
    names_parties = True

    party_set = models.ForeignKey(PartySet, on_delete=models.PROTECT, null=True, editable=False, related_name="+")

    class Meta(Configuration.Meta):
        verbose_name = _("cluster configuration")

    @classmethod
    def involving(cls, rows: QuerySet[Any], parties: Collection[str], wholly: bool = False) -> QuerySet[Any]:
        return rows.filter(party_set__in=PartySet.keys(parties, wholly=wholly))

    def involved(self) -> set[str]:
        named = self.document.get("parties") if isinstance(self.document, dict) else None
        return {name for name in named if isinstance(name, str)} if isinstance(named, list) else set()

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.party_set = PartySet.of(self.involved())
        super().save(*args, **kwargs)

    def clean(self) -> None:
        cluster, problems = parse_document(self.layer, self.document)
        if cluster is not None:
            problems += filled_at_dispatch(cluster)
            named = set(cluster.parties) if self.within is None else self.within.intersection(cluster.parties)
            known = set(Party.objects.filter(name__in=named).values_list("name", flat=True))
            problems += [
                Problem(f"parties.{i}", f"no party {party!r} is registered", "register it under Parties first")
                for i, party in enumerate(cluster.parties)
                if party not in known
            ]
        self._settle(problems)


class SPUConfig(Configuration):
    """Layer 2, ``spu_config``: the MPC device. Nodes and ports are filled in at dispatch."""

    layer = "spu_config"

    class Meta(Configuration.Meta):
        verbose_name = _("SPU configuration")


class HEUConfig(Configuration):
    """Layer 3, ``heu_config``: the homomorphic encryption device."""

    layer = "heu_config"
    names_parties = True

    class Meta(Configuration.Meta):
        verbose_name = _("HEU configuration")

    @classmethod
    def involving(cls, rows: QuerySet[Any], parties: Collection[str], wholly: bool = False) -> QuerySet[Any]:
        # in Python: there are few, and databases differ in how they look into JSON
        named = {heu.pk: heu.named() for heu in rows.order_by()}
        if wholly:
            return rows.filter(pk__in=[pk for pk, names in named.items() if names.issubset(parties)])
        return rows.filter(pk__in=[pk for pk, names in named.items() if not names or not names.isdisjoint(parties)])

    def involved(self) -> set[str]:
        return super().involved() | self.named()

    def named(self) -> set[str]:
        """Return the parties that the document names."""
        document = self.document if isinstance(self.document, dict) else {}
        evaluators = document.get("evaluators")
        named = [document.get("sk_keeper"), *(evaluators if isinstance(evaluators, list) else ())]
        return {name for name in named if isinstance(name, str)}


class DeviceConfig(Configuration):
    """The document of a further device's layer. Its name and layer cannot change while a task names it."""

    layer = models.CharField(max_length=64, help_text=_("Layer of the device that it configures."))

    class Meta(Configuration.Meta):
        verbose_name = _("device configuration")

    def clean(self) -> None:
        if self.layer not in further_layers():
            raise ValidationError(
                {
                    "layer": gettext("There is no such device; {closest}").format(
                        closest=closest(self.layer, further_layers())
                    )
                }
            )
        before = DeviceConfig.objects.filter(pk=self.pk).first()
        if before and (before.name, before.layer) != (self.name, self.layer):
            about_to_be_renamed.send(sender=DeviceConfig, before=before)
        super().clean()

    def used_by(self) -> Iterable[Any]:
        tasks = self._meta.apps.get_model("controlplane", "Task")._default_manager.select_related("cluster")
        rows: Any = tasks.only("devices", "cluster__document")
        return [task for task in rows if isinstance(task.devices, dict) and task.devices.get(self.layer) == self.name]


def stored_document(row: models.Model) -> Any:
    """Return the document of a row as it is stored in the database."""
    return type(row)._base_manager.filter(pk=row.pk).values_list("document", flat=True).first()
