"""The admin of what an operator registers, and of users and their API tokens."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from controlplane.config_admin import ConfigAdmin
from controlplane.config_forms import REBUILD, ConfigurationForm, DatasetForm, TaskForm
from controlplane.models import (
    PRODUCTION,
    ClusterConfig,
    Configuration,
    Dataset,
    HEUConfig,
    Party,
    Site,
    SPUConfig,
    Task,
)
from workers.executors import TASK_EXECUTOR_REGISTRY


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
    list_display = ("name", "summary", "description", "version", "updated_at")
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

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if REBUILD in request.POST:
            context["errors"] = None
        return super().render_change_form(request, context, *args, **kwargs)


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
