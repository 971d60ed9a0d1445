"""The form of a task. Its fields depend on the chosen task type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget

from controlplane.forms.configurations import all_parties
from controlplane.forms.document import DocumentForm
from controlplane.forms.schema import ROLES, Offer, Schema, form_schema, label
from controlplane.language import translated
from controlplane.models import (
    ClusterConfig,
    DeviceConfig,
    Task,
)
from controlplane.models.catalogue import ComposingCatalogue, DatabaseCatalogue
from workers.contract.documents import TaskConfig
from workers.contract.registry import TASK_EXECUTOR_REGISTRY, further_layers

#: How many parties, each with its datasets, a form without a cluster offers: one of hundreds is found by its cluster.
MOST_OFFERED = 20
#: Separates a task type and its variant in the form's choice.
VARIANT = ":"
#: Keys of a task's document that are not among its fields: the choice of the task type has them.
ELSEWHERE = ("task_type", "component")


def _choices() -> Iterator[tuple[str, Any]]:
    for name, executor in TASK_EXECUTOR_REGISTRY.items():
        if variants := executor.variants():
            yield translated(executor.title), [(f"{name}{VARIANT}{variant}", variant) for variant in variants]
        else:
            yield name, translated(executor.title)


def choice_of(document: Any) -> str | None:
    """Return the choice of a task type that matches a stored document."""
    name = document.get("task_type") if isinstance(document, dict) else None
    if not isinstance(name, str) or name not in TASK_EXECUTOR_REGISTRY or not TASK_EXECUTOR_REGISTRY[name].variants():
        return name
    params = document.get("algorithm_params")
    inner = params.get(TASK_EXECUTOR_REGISTRY[name].params_key) if isinstance(params, dict) else None
    return f"{name}{VARIANT}{inner.get('component', '') if isinstance(inner, dict) else ''}"


def schema_of(executor: Any, variant: str, offer: Offer) -> Schema:
    """Return the schema of a task's document, without the choice of its task type."""
    roles = executor.roles(SimpleNamespace(component=variant))
    offer = replace(offer, roles={"further_sources": [*roles.sources], "further_outputs": [*roles.outputs]})
    idle = [field for field in ROLES if not offer.roles[field]]
    schema = form_schema(TaskConfig, offer, hidden=("task_type", *idle))
    params = form_schema(executor.params_model(variant), offer, hidden=("component",) if variant else ())
    params["title"] = translated(label(executor.params_key))
    schema["properties"]["algorithm_params"] = {
        "type": "object",
        "title": gettext("Parameters"),
        "properties": {executor.params_key: params},
        "required": [executor.params_key],
    }
    return schema


def offer_of(parties: Sequence[str], catalogue: DatabaseCatalogue) -> Offer:
    """Return what a form offers for these parties: their datasets and columns."""
    datasets = {party: catalogue.datasets(party) or {} for party in parties}
    columns = {
        party: list(dict.fromkeys(column for kinds in found.values() for column in kinds or ()))
        for party, found in datasets.items()
    }
    return Offer(parties, {party: sorted(found) for party, found in datasets.items()}, columns)


def with_choice(document: dict[str, Any], choice: str) -> dict[str, Any]:
    """Return a task's document with the choice of its task type, which is not among the fields of ``schema_of``."""
    name, _, variant = choice.partition(VARIANT)
    document = {"task_type": name, **document}
    params = document.get("algorithm_params")
    if variant and isinstance(params, dict):
        key = TASK_EXECUTOR_REGISTRY[name].params_key
        inner = params.get(key, {})
        if isinstance(inner, dict):
            document["algorithm_params"] = params | {key: {"component": variant} | inner}
    return document


class TaskForm(DocumentForm):
    """The form of a task's document; its fields depend on the task type and the cluster's parties."""

    task_type = forms.ChoiceField(
        label=_("Task type"),
        widget=UnfoldAdminSelectWidget(attrs={"data-rebuild": ""}),
    )

    class Meta:
        model = Task
        fields = [
            "name",
            "description",
            "cluster",
            "spu",
            "heu",
            "task_type",
            "document",
            *Task.option_names(),
        ]

    layer = "task_config"
    decisive = frozenset({"document", "task_type", "cluster", "spu", "heu", *further_layers()})

    def prepare(self) -> None:
        for name in further_layers():
            if name in self.fields:
                self.initial.setdefault(name, DeviceConfig.objects.filter(name=self.instance.devices.get(name)).first())
        if "task_type" in self.fields:
            field: Any = self.fields["task_type"]
            document: Any = self.fields.get("document")
            if document:
                document.widget.elsewhere = ELSEWHERE
            field.help_text = format_html(
                gettext(
                    'What to compute; the form below changes with it. <a href="{}" class="underline">All task types</a>'
                ),
                reverse("admin:controlplane_task_types"),
            )
            field.choices = list(_choices())
            self.initial.setdefault("task_type", choice_of(self.initial.get("document")))
        if "cluster" in self.fields:
            widget: Any = self.fields["cluster"].widget
            getattr(widget, "widget", widget).attrs["data-rebuild"] = ""  # the admin wraps the widget to add a button
            if not self.is_bound and not self.instance.pk and "cluster" not in self.initial:
                only = list(self._clusters().values_list("pk", flat=True)[:2])
                self.initial["cluster"] = only[0] if len(only) == 1 else None
            if not self["cluster"].value():
                self["cluster"].help_text = gettext("Choose a cluster first: the form below is then for its parties.")

    @property
    def executor(self) -> tuple[Any, str]:
        """Return the executor of the chosen task type, and the chosen variant if it has variants."""
        chosen: Any = self["task_type"].value() if "task_type" in self.fields else None
        name, _, variant = str(chosen or "").partition(VARIANT)
        if name not in TASK_EXECUTOR_REGISTRY:
            name = next(iter(TASK_EXECUTOR_REGISTRY))
        executor = TASK_EXECUTOR_REGISTRY[name]
        variants = executor.variants()
        return executor, variant if variant in variants else next(iter(variants), "")

    def make_schema(self) -> Schema:
        catalogue = ComposingCatalogue(Task.objects.exclude(pk=self.instance.pk), self.within)
        return schema_of(*self.executor, offer_of(self._parties(), catalogue))

    def _parties(self) -> list[str]:
        """Return the cluster's parties in its order; a few registered parties as long as no cluster is chosen."""
        chosen: Any = self["cluster"].value() if "cluster" in self.fields else None
        if str(chosen or "").isdecimal():
            cluster = self._clusters().filter(pk=chosen).first()
            parties = cluster.document.get("parties") if cluster else None
            if isinstance(parties, list):
                return parties
        return all_parties(self.within)[:MOST_OFFERED]

    def _clusters(self) -> QuerySet[ClusterConfig]:
        return ClusterConfig.rows_within(self.within)

    def clean(self) -> Any:
        cleaned = super().clean() or self.cleaned_data
        if chosen := [name for name in further_layers() if name in self.fields]:
            self.instance.devices = {name: cleaned[name].name for name in chosen if cleaned.get(name)}
        return cleaned

    def clean_document(self) -> Any:
        document = self.cleaned_data["document"]
        if isinstance(document, dict) and "task_type" in self.cleaned_data:
            document = with_choice(document, self.cleaned_data["task_type"])
        return document


# A choice of configuration for each further device, added here since an admin needs its fields when it is imported
for _layer in further_layers():
    TaskForm.base_fields[_layer] = TaskForm.declared_fields[_layer] = forms.ModelChoiceField(
        DeviceConfig.objects.filter(layer=_layer),
        required=False,
        label=label(_layer.removesuffix("_config")),
        help_text=_("Needed by task types that compute on it."),
        widget=UnfoldAdminSelectWidget,
        empty_label=_("off"),
    )
