"""The admin of what an operator registers, and of users and their API tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from controlplane.config_admin import ConfigAdmin
from controlplane.config_forms import ConfigurationForm, DatasetForm, DeviceConfigForm, TaskForm
from controlplane.confirm import confirm_page
from controlplane.models import (
    PRODUCTION,
    ClusterConfig,
    Configuration,
    Dataset,
    DeviceConfig,
    HEUConfig,
    Party,
    Site,
    SPUConfig,
    Task,
)
from controlplane.task_types import described, parameters
from workers.contract.alignment import DECLARED
from workers.contract.catalogue import TABLE
from workers.contract.registry import TASK_EXECUTOR_REGISTRY, further_layers

DRIFT_COLOURS = {"as registered": "success", "differs": "warning", "not reported": "default", "output": "info"}


def environment_label(request: HttpRequest) -> tuple[str, str] | None:
    """For the head of every page: the environment's name and, where it is not production, its tier. In two parts for
    unfold: the text and the colour, which is the tier's (templates/admin/base.html goes by it)."""
    site = Site.current()
    if site.security == PRODUCTION:
        return (site.environment, "info") if site.environment else None
    return " ".join(filter(None, (site.environment, site.security))), "warning"


@admin.register(Party)
class PartyAdmin(ConfigAdmin):
    list_display = ("name", "description", "address", "ports", "dataset_count")
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        ("Network", {"fields": ("address", "port_first", "port_last")}),
        ("Secrets", {"fields": ("public_key",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Party]:
        return super().get_queryset(request).annotate(dataset_count=Count("datasets"))

    @display(description="Ports")
    def ports(self, party: Party) -> str:
        return f"{party.port_first}-{party.port_last}"

    @display(description="Datasets", ordering="dataset_count")
    def dataset_count(self, party: Any) -> int:
        return int(party.dataset_count)


@admin.register(Dataset)
class DatasetAdmin(ConfigAdmin):
    form = DatasetForm
    list_display = ("name", "party", "column_names", "keys", "shown_drift", "description")
    list_filter = ("party",)
    list_select_related = ("party",)
    fieldsets = (
        (None, {"fields": ("party", "name", "description")}),
        (
            "Columns",
            {
                "fields": ("columns",),
                "description": "A type that you write here holds in checks and runs, such as str for a code, unless "
                "party.toml on the party's host declares another one. Text does not become a number by it.",
            },
        ),
        ("On the party's host", {"fields": ("shown_report", "shown_alignment")}),
    )
    readonly_fields = ("shown_report", "shown_alignment")
    actions_detail = ("take_over",)

    @display(description="Columns")
    def column_names(self, dataset: Dataset) -> str:
        names = list(dataset.columns)
        return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")

    @display(
        description="Drift",
        label={"as registered": "success", "differs": "warning", "not reported": "default", "output": "info"},
    )
    def shown_drift(self, dataset: Dataset) -> str:
        if dataset.reported_at is None:
            return "output" if dataset.produced_by else "not reported"
        return "differs" if dataset.drift else "as registered"

    @display(description="Reported")
    def shown_report(self, dataset: Dataset) -> str:
        if dataset.reported_at is None:
            return "nothing yet; `manage.py publish_datasets` on the party's host tells what its tables look like"
        rows = "" if dataset.reported_rows is None else f", {dataset.reported_rows:,} rows"
        found = "; ".join(dataset.drift) or "as registered"
        return f"{found}{rows} ({dataset.reported_at:%Y-%m-%d %H:%M} UTC)"

    @display(description="Order of rows")
    def shown_alignment(self, dataset: Dataset) -> str:
        if dataset.kind != TABLE:
            return "-"
        if not dataset.alignment:
            return (
                "Unknown. Tasks whose rows must line up refuse it; run a PSI first, or declare alignment in party.toml."
            )
        if dataset.alignment.startswith(DECLARED):
            name = dataset.alignment.removeprefix(DECLARED)
            return f"Declared as {name!r} in party.toml: lines up with other parties' tables of this name."
        page = reverse("admin:executions_execution_change", args=[dataset.alignment[:36]])
        return format_html(
            'Made by <a href="{}" class="text-link">execution {}</a>: lines up with the other tables of that order.',
            page, dataset.alignment[:8],
        )  # fmt: skip

    def has_take_over_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        dataset = self.get_object(request, str(object_id)) if object_id else None
        return bool(dataset and dataset.reported_columns and dataset.drift and self.has_change_permission(request))

    # a link, as unfold's actions are: only posting the form that it leads to changes anything
    @action(
        description="Take over what the host reported", icon="sync", permissions=("take_over",), url_path="take-over"
    )
    def take_over(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Register the columns as the party's host found them."""
        dataset = self.get_object(request, object_id)
        if dataset is None or not dataset.reported_columns:
            raise Http404("There is nothing to take over.")
        page = reverse("admin:controlplane_dataset_change", args=[dataset.pk])
        if request.method != "POST":
            facts = [("What changes", "; ".join(dataset.drift))]
            return confirm_page(
                self, request, f"Register {dataset} as its host reported it?", "Take over", page, facts=facts
            )
        dataset.columns = dataset.reported_columns
        dataset.key_columns = [key for key in dataset.key_columns if key in dataset.columns]
        try:
            dataset.full_clean()
        except ValidationError as error:
            messages.error(request, "; ".join(error.messages))
            return HttpResponseRedirect(page)
        self.save_model(request, dataset, None, change=True)
        messages.success(request, f"{dataset} is registered as its host reported it.")
        self.tell_effect(request)
        return HttpResponseRedirect(page)

    @display(description="Keys")
    def keys(self, dataset: Dataset) -> str:
        return ", ".join(dataset.key_columns)


class ConfigurationAdmin(ConfigAdmin):
    form: type[ConfigurationForm] = ConfigurationForm
    list_display = ("name", "summary", "description", "version", "updated_at")
    fieldsets: Any = (
        (None, {"fields": ("name", "description")}),
        ("Document", {"fields": ("document",)}),
    )

    @display(description="Summary")
    def summary(self, configuration: Configuration) -> str:
        return ""


@admin.register(ClusterConfig)
class ClusterConfigAdmin(ConfigurationAdmin):
    @display(description="Parties")
    def summary(self, configuration: Configuration) -> str:
        return ", ".join(map(str, configuration.document.get("parties", [])))


@admin.register(SPUConfig)
class SPUConfigAdmin(ConfigurationAdmin):
    @display(description="Protocol")
    def summary(self, configuration: Configuration) -> str:
        if not configuration.document.get("enable_spu", True):
            return "off"
        runtime = configuration.document.get("runtime_config", {})
        return f"{runtime.get('protocol', 'SEMI2K')}, {runtime.get('field', 'FM128')}"


@admin.register(HEUConfig)
class HEUConfigAdmin(ConfigurationAdmin):
    @display(description="Scheme")
    def summary(self, configuration: Configuration) -> str:
        if not configuration.document.get("enable_heu", True):
            return "off"
        parameters = configuration.document.get("he_parameters", {})
        bits = parameters.get("key_pair", {}).get("generate", {}).get("bit_size", 2048)
        return f"{parameters.get('schema', 'paillier')}, {bits} bits"


class DeviceConfigAdmin(ConfigurationAdmin):
    form = DeviceConfigForm
    list_filter = ("layer",)
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        ("Document", {"fields": ("layer", "document")}),
    )

    @display(description="Device")
    def summary(self, configuration: Configuration) -> str:
        return str(configuration.layer)


if further_layers():
    admin.site.register(DeviceConfig, DeviceConfigAdmin)


@admin.register(Task)
class TaskAdmin(ConfigAdmin):
    form = TaskForm
    list_display = ("name", "task_type", "cluster", "datasets", "description", "updated_at")
    list_filter = ("cluster",)
    list_select_related = ("cluster",)
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        ("Who computes, on what", {"fields": ("cluster", "spu", "heu", *further_layers())}),
        ("Task", {"fields": ("task_type", "document")}),
        ("Running it", {"fields": Task.option_names()}),
    )

    @display(description="Task type")
    def task_type(self, task: Task) -> str:
        name = task.document.get("task_type", "") if task.pk else ""
        return TASK_EXECUTOR_REGISTRY[name].title if name in TASK_EXECUTOR_REGISTRY else str(name)

    @display(description="Datasets")
    def datasets(self, task: Task) -> str:
        return ", ".join(f"{party}/{name}" for party, name in task.document.get("data_sources", {}).items())

    def get_urls(self) -> list[Any]:
        types = self.admin_site.admin_view(self.types_view)
        return [path("types/", types, name="controlplane_task_types"), *super().get_urls()]

    def types_view(self, request: HttpRequest) -> HttpResponse:
        """What every task type does, with its parameters and an example."""
        types = [
            _shown(found, found["name"])
            | {"variants": [_shown(variant, found["name"], variant["name"]) for variant in found["variants"]]}
            for found in described()
        ]
        context = self.admin_site.each_context(request) | {"title": "Task types", "opts": self.opts, "types": types}
        return TemplateResponse(request, "admin/task_types.html", context)


def _shown(found: Mapping[str, Any], task_type: str, variant: str = "") -> dict[str, Any]:
    """A task type or a variant as the page has it."""
    told = parameters(TASK_EXECUTOR_REGISTRY[task_type], variant)
    text = json.dumps(found["request"], indent=2) if found["request"] else ""
    return {**found, "parameters": told, "request_text": text}


@admin.register(Site)
class SiteAdmin(ConfigAdmin):
    """One row: its list leads to its page, which is there before the row is."""

    search_fields = ()
    fields = ("environment", "security")
    shows_users = False  # they would be all there are

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Site | None = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:controlplane_site_change", args=[Site.current().pk]))

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Site | None:
        return Site.current() if object_id == str(Site.current().pk) else None


admin.site.index_title = "Overview"
admin.site.unregister((User, Group, AuthToken))


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


@admin.register(AuthToken)
class AuthTokenAdmin(ModelAdmin):
    """Tokens can be looked at and revoked. They are made at the login endpoint or by ``manage.py token``."""

    list_display = ("token_key", "user", "created", "expiry")
    list_select_related = ("user",)
    search_fields = ("token_key", "user__username")
    fields = ("token_key", "user", "created", "expiry")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return False
