"""Reusable documents: of the cluster, and of each device."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from controlplane.documents.encryption import protect
from controlplane.documents.errors import document_errors
from controlplane.models.party import Party
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

    class Meta(Configuration.Meta):
        verbose_name = "cluster configuration"

    def clean(self) -> None:
        cluster, problems = parse_document(self.layer, self.document)
        if cluster is not None:
            problems += filled_at_dispatch(cluster)
            known = set(Party.objects.filter(name__in=cluster.parties).values_list("name", flat=True))
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
        verbose_name = "SPU configuration"


class HEUConfig(Configuration):
    """Layer 3, ``heu_config``: the homomorphic encryption device."""

    layer = "heu_config"

    class Meta(Configuration.Meta):
        verbose_name = "HEU configuration"


class DeviceConfig(Configuration):
    """The document of a further device's layer. Its name and layer cannot change while a task names it."""

    layer = models.CharField(max_length=64, help_text="Layer of the device that it configures.")

    class Meta(Configuration.Meta):
        verbose_name = "device configuration"

    def clean(self) -> None:
        if self.layer not in further_layers():
            raise ValidationError({"layer": f"There is no such device; {closest(self.layer, further_layers())}"})
        before = DeviceConfig.objects.filter(pk=self.pk).first()
        if before and (before.name, before.layer) != (self.name, self.layer):
            about_to_be_renamed.send(sender=DeviceConfig, before=before)
        super().clean()


def stored_document(row: models.Model) -> Any:
    """Return the document of a row as it is stored in the database."""
    return type(row)._base_manager.filter(pk=row.pk).values_list("document", flat=True).first()
