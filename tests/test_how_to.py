"""What docs/how-to.md says of where things are to be named; each failure names the place that was forgotten."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.db.models import CASCADE, Model

from controlplane.api.pipelines import PipelineSerializer, ScheduleSerializer
from controlplane.api.router import router
from controlplane.api.site import SiteSerializer
from controlplane.environment import ROOT
from controlplane.models import Dataset, DeviceConfig, Pipeline, Schedule, Site, Task
from controlplane.profiles.entries import Profile
from controlplane.profiles.stored import ENTRIES, MODELS
from executions.coordinator.retention import kinds
from executions.coordinator.settle import RETRY_POLICY
from executions.models import Beat, Condition, Hour, Total, Webhook
from executions.states import COLOURS, TRANSITIONS, PipelineStatus, RunStatus, Status
from workers.contract.errors import ERRORS

#: Fields that a page shows in another way, with how.
SHOWN_OTHERWISE = {
    (Dataset, "key_columns"): "a box at each column",
    (Task, "devices"): "a choice for each further device",
}
#: Fields that a profile says in another way: by an entry's own name, its section, or the name of its layer.
SAID_OTHERWISE = {"name", "party", "document"}

SERIALIZERS: dict[type[Model], Any] = {
    view.queryset.model: getattr(view, "serializer_class", None)
    for _, view, _ in router.registry
    if hasattr(view, "queryset")
} | {Pipeline: PipelineSerializer, Schedule: ScheduleSerializer, Site: SiteSerializer}
REGISTERED = [Site, *MODELS.values()]


def fields_of(model: type[Model]) -> list[str]:
    """The fields that an operator writes."""
    fields: Any = model._meta.concrete_fields
    return [f.name for f in fields if f.editable and not f.primary_key and not getattr(f, "auto_now", False)]


def shown_by(page: Any) -> set[str]:
    """The fields on a page."""
    named = [field for _, options in page.fieldsets or [(None, {"fields": page.fields})] for field in options["fields"]]
    return {name for entry in named for name in (entry if isinstance(entry, tuple) else (entry,))}


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model.__name__)
def test_every_field_is_on_its_page_in_the_api_and_in_profiles(model: type[Model]) -> None:
    forgotten = []
    page = admin.site._registry.get(model)
    if page is None:
        assert model is DeviceConfig, f"{model.__name__} has no page: register one in controlplane/admin/"
    entry = next((ENTRIES[section] for section, found in MODELS.items() if found is model), Profile)
    for field in fields_of(model):
        if page and field not in shown_by(page) and (model, field) not in SHOWN_OTHERWISE:
            forgotten.append(f"{field}: fieldsets of {type(page).__name__} in {type(page).__module__}")
        serializer = SERIALIZERS[model]
        if field not in serializer.Meta.fields:
            forgotten.append(f"{field}: fields of {serializer.__name__} in {serializer.__module__}")
        if field not in entry.model_fields and field not in SAID_OTHERWISE:
            forgotten.append(f"{field}: {entry.__name__} in controlplane.profiles.entries")
    assert not forgotten, "\n".join(forgotten)


def test_every_model_with_a_page_is_in_the_sidebar() -> None:
    linked = {str(entry["link"]) for group in settings.UNFOLD["SIDEBAR"]["navigation"] for entry in group["items"]}
    # RQ's own page shows what is in Redis, which is not the truth here
    models = [model._meta for model in admin.site._registry if model._meta.app_label != "django_rq"]
    names = {f"/admin/{model.app_label}/{model.model_name}/" for model in models}
    forgotten = sorted(name for name in names if name not in linked)
    assert not forgotten, f"name them in SIDEBAR of controlplane/settings.py: {', '.join(forgotten)}"


@pytest.mark.parametrize("package", ["controlplane", "executions"])
def test_every_admin_module_is_imported_by_its_package(package: str) -> None:
    """Django imports the package alone: a page in a module that nobody imports does not exist."""
    for path in sorted((ROOT / package / "admin").glob("*.py")):
        if "@admin.register" in path.read_text() or "admin.site.register" in path.read_text():
            name = f"{package}.admin.{path.stem}"
            assert hasattr(import_module(f"{package}.admin"), path.stem), (
                f"import {name} in {package}/admin/__init__.py"
            )


@pytest.mark.parametrize("kind", [Status, RunStatus, PipelineStatus], ids=lambda kind: kind.__name__)
def test_every_status_has_a_colour_and_its_transitions(kind: Any) -> None:
    assert [status for status in kind if status not in COLOURS] == [], "give it a colour in executions/states.py"
    if kind in TRANSITIONS:
        missing = [status for status in kind if status not in TRANSITIONS[kind]]
        assert missing == [], "say in TRANSITIONS of executions/states.py what may follow it"


def test_everything_that_is_run_is_removed_one_day() -> None:
    # One row of each kind, those of the last month, of each coordinator of the last day, of each party and dataset, and
    # twenty of each user
    removed: set[type[Model]] = {kind.model for kind in kinds()} | {Total, Hour, Beat, Condition, Webhook}
    while (
        more := {
            relation.related_model
            for model in removed
            for relation in model._meta.related_objects
            if relation.on_delete is CASCADE
        }
        - removed
    ):
        removed |= more
    forgotten = [model.__name__ for model in apps.get_app_config("executions").get_models() if model not in removed]
    assert forgotten == [], "name them in kinds() of executions/coordinator/retention.py"


def test_only_known_errors_are_retried() -> None:
    assert set(RETRY_POLICY) <= set(ERRORS), "RETRY_POLICY of executions/coordinator/settle.py names an unknown error"
