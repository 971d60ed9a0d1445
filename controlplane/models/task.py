"""Tasks: computations that are ready to be run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from controlplane.documents.encryption import protect
from controlplane.documents.errors import document_errors
from controlplane.models.catalogue import ComposingCatalogue
from controlplane.models.configuration import ClusterConfig, DeviceConfig, HEUConfig, SPUConfig, stored_document
from controlplane.models.party_set import PartySet
from controlplane.models.protection import protect as protect_row
from controlplane.models.versioned import Versioned, about_to_be_renamed
from workers.contract.problems import DocumentsInvalid, Problem, closest
from workers.contract.registry import further_layers
from workers.contract.validation import Run, validate


class RunOptions(models.Model):
    """Options of how an execution is run, not of what it computes. A task has them, and each execution its own copy."""

    priority = models.SmallIntegerField(
        default=0,
        validators=[MinValueValidator(-32768), MaxValueValidator(32767)],
        help_text=_(
            "Higher goes first. A point counts as much as a minute of waiting, so that nothing waits for ever."
        ),
    )
    run_limit_seconds = models.PositiveIntegerField(
        default=3600,
        validators=[MinValueValidator(1), MaxValueValidator(2**31 - 1)],
        help_text=_("A run that takes longer is stopped and fails."),
    )
    dispatch_limit_seconds = models.PositiveIntegerField(
        default=24 * 3600,
        validators=[MinValueValidator(1), MaxValueValidator(2**31 - 1)],
        help_text=_("An execution that is not dispatched within this time fails."),
    )
    network_retries = models.PositiveSmallIntegerField(
        default=3, validators=[MaxValueValidator(3)], help_text=_("Retries after network errors, at most 3.")
    )
    resource_retries = models.PositiveSmallIntegerField(
        default=5,
        validators=[MaxValueValidator(5)],
        help_text=_("Retries while a port, memory or disk is short, at most 5."),
    )

    class Meta:
        abstract = True

    @classmethod
    def option_names(cls) -> list[str]:
        return [field.name for field in RunOptions._meta.local_fields]

    def options(self) -> dict[str, int]:
        """Return the options by name, as a submission takes them."""
        return {name: getattr(self, name) for name in self.option_names()}


class Task(Versioned, RunOptions):
    """A computation that can be run any number of times: a cluster, its devices and the task document."""

    name = models.CharField(max_length=100, unique=True)
    description = models.CharField(max_length=200, blank=True)
    cluster = models.ForeignKey(ClusterConfig, on_delete=protect_row, related_name="tasks")
    spu = models.ForeignKey(
        SPUConfig,
        on_delete=protect_row,
        related_name="tasks",
        null=True,
        blank=True,
        verbose_name="SPU",
        help_text=_("Leave empty to switch the SPU off."),
    )
    heu = models.ForeignKey(
        HEUConfig,
        on_delete=protect_row,
        related_name="tasks",
        null=True,
        blank=True,
        verbose_name="HEU",
        help_text=_("Leave empty to switch the HEU off."),
    )
    devices = models.JSONField(
        default=dict,
        blank=True,
        help_text=_('Further devices: layer to the name of a device configuration, such as {"gpu_config": "small"}.'),
    )
    document = models.JSONField(
        "task", default=dict, help_text=_("Task type, datasets, outputs and the parameters of the task type.")
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def involving(cls, rows: QuerySet[Any], parties: Collection[str], wholly: bool = False) -> QuerySet[Any]:
        return rows.filter(cluster__party_set__in=PartySet.keys(parties, wholly=wholly))

    def involved(self) -> set[str]:
        return self.cluster.involved()

    def documents(self) -> dict[str, Any]:
        """Return the documents as they would be submitted now, those of further devices included. Raises
        DocumentsInvalid if the task names a device configuration that does not exist."""
        return {
            "sf_init_config": self.cluster.document,
            "spu_config": self.spu.document if self.spu else {"enable_spu": False},
            "heu_config": self.heu.document if self.heu else {"enable_heu": False},
            "task_config": self.document,
        } | self._device_documents()

    def _device_documents(self) -> dict[str, Any]:
        if not self.devices:  # most tasks have none: no query
            return {}
        if not isinstance(self.devices, dict):
            raise DocumentsInvalid([Problem("devices", "is not a JSON object", "should name a configuration by layer")])
        configs = {(c.layer, c.name): c.document for c in DeviceConfig.objects.filter(layer__in=self.devices)}
        problems = []
        for layer, name in self.devices.items():
            if layer not in further_layers():
                problems.append(Problem(f"devices.{layer}", "is no further device", closest(layer, further_layers())))
            elif (layer, name) not in configs:
                known = [known for of, known in configs if of == layer]
                problems.append(Problem(f"devices.{layer}", "names no configuration", closest(str(name), known)))
        if problems:
            raise DocumentsInvalid(problems)
        return {layer: configs[layer, name] for layer, name in self.devices.items()}

    def validate(self, catalogue: ComposingCatalogue | None = None) -> Run:
        """Return the typed run, as if the outputs of other tasks existed. Raises DocumentsInvalid with all problems of
        the four documents. ``catalogue``: that of all other tasks, if it was read already."""
        return validate(
            self.documents(), catalogue or ComposingCatalogue(Task.objects.exclude(pk=self.pk), self.within)
        )

    def clean(self) -> None:
        before = Task.objects.filter(pk=self.pk).only("name").first() if self.pk else None
        if before and before.name != self.name:
            about_to_be_renamed.send(sender=Task, before=before)
        if self.cluster_id is None:
            return
        field_of = {"sf_init_config": "cluster", "spu_config": "spu", "heu_config": "heu", "task_config": "document"}
        field_of |= dict.fromkeys(("devices", *further_layers()), "devices")
        try:
            self.validate()
        except DocumentsInvalid as error:
            found: dict[str, list[Problem]] = {}
            for problem in error.problems:
                layer, _, rest = problem.path.partition(".")
                if layer in further_layers():  # it holds several layers
                    rest = problem.path
                found.setdefault(field_of[layer], []).append(Problem(rest, problem.wrong, problem.right))
            raise document_errors(found) from None
        self.document, problems = protect("task_config", self.document, lambda: stored_document(self))
        if problems:
            raise document_errors({"document": problems})
