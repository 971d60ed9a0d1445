"""The admin of what an operator registers, and of users and their API tokens."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from controlplane.config_forms import ConfigurationForm, DatasetForm, TaskForm
from controlplane.forms import REBUILD
from controlplane.models import ClusterConfig, Configuration, Dataset, HEUConfig, Party, SPUConfig, Task
from workers.executors import TASK_EXECUTOR_REGISTRY

SHOWN_IN_USE = 20


class ConfigAdmin(ModelAdmin):
    """Base of the admin of everything that is registered."""

    compressed_fields = False
    warn_unsaved_form = True
    list_filter_sheet = False
    search_fields = ("name", "description")

    @property
    def media(self) -> forms.Media:
        return super().media + forms.Media(js=["controlplane/document-form.js"])

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if REBUILD in request.POST:
            context["errors"] = None
        return super().render_change_form(request, context, *args, **kwargs)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        to_delete, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        if len(protected) > SHOWN_IN_USE:  # a party that ran for a year has thousands of runs
            protected = [*protected[:SHOWN_IN_USE], f"and {len(protected) - SHOWN_IN_USE} more"]
        return to_delete, counts, perms_needed, protected


@admin.register(Party)
class PartyAdmin(ConfigAdmin):
    list_display = ("name", "description", "address", "ports", "dataset_count")
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        ("Network", {"fields": ("address", "port_first", "port_last")}),
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
    list_display = ("name", "party", "column_names", "keys", "description")
    list_filter = ("party",)
    list_select_related = ("party",)
    fieldsets = (
        (None, {"fields": ("party", "name", "description")}),
        ("Columns", {"fields": ("columns",)}),
    )

    @display(description="Columns")
    def column_names(self, dataset: Dataset) -> str:
        names = list(dataset.columns)
        return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")

    @display(description="Keys")
    def keys(self, dataset: Dataset) -> str:
        return ", ".join(dataset.key_columns)


class ConfigurationAdmin(ConfigAdmin):
    form = ConfigurationForm
    list_display = ("name", "summary", "description", "updated_at")
    fieldsets = (
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


@admin.register(Task)
class TaskAdmin(ConfigAdmin):
    form = TaskForm
    list_display = ("name", "task_type", "cluster", "datasets", "description", "updated_at")
    list_filter = ("cluster",)
    list_select_related = ("cluster",)
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        ("Who computes, on what", {"fields": ("cluster", "spu", "heu")}),
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
