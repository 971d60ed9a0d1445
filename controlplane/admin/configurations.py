"""The admin of the cluster's and the devices' documents."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from controlplane.admin.base import ConfigAdmin
from controlplane.forms.configurations import ConfigurationForm, DeviceConfigForm
from controlplane.models import (
    ClusterConfig,
    Configuration,
    DeviceConfig,
    HEUConfig,
    SPUConfig,
)
from workers.contract.registry import further_layers


class ConfigurationAdmin(ConfigAdmin):
    form: type[ConfigurationForm] = ConfigurationForm
    list_display = ("name", "summary", "description", "version", "shown_changed")
    csv_columns = (
        ("name", "name"), ("description", "description"), ("version", "version"), ("changed", "updated_at"),
    )  # fmt: skip
    fieldsets: Any = (
        (None, {"fields": ("name", "description")}),
        (_("Document"), {"fields": ("document",)}),
    )

    @display(description=_("Summary"))
    def summary(self, configuration: Configuration) -> str:
        return ""


@admin.register(ClusterConfig)
class ClusterConfigAdmin(ConfigurationAdmin):
    none_yet = _("No cluster yet. Add one to say which parties compute together.")

    @display(description=_("Parties"))
    def summary(self, configuration: Configuration) -> str:
        return ", ".join(map(str, configuration.document.get("parties", [])))


@admin.register(SPUConfig)
class SPUConfigAdmin(ConfigurationAdmin):
    none_yet = _("No SPU configuration yet. Add one: the defaults are good for a start.")

    @display(description=_("Protocol"))
    def summary(self, configuration: Configuration) -> str:
        if not configuration.document.get("enable_spu", True):
            return gettext("off")
        runtime = configuration.document.get("runtime_config", {})
        return f"{runtime.get('protocol', 'SEMI2K')}, {runtime.get('field', 'FM128')}"


@admin.register(HEUConfig)
class HEUConfigAdmin(ConfigurationAdmin):
    none_yet = _("No HEU configuration yet. Add one for tasks that use homomorphic encryption.")

    @display(description=_("Scheme"))
    def summary(self, configuration: Configuration) -> str:
        if not configuration.document.get("enable_heu", True):
            return gettext("off")
        parameters = configuration.document.get("he_parameters", {})
        bits = parameters.get("key_pair", {}).get("generate", {}).get("bit_size", 2048)
        return gettext("{scheme}, {bits} bits").format(scheme=parameters.get("schema", "paillier"), bits=bits)


class DeviceConfigAdmin(ConfigurationAdmin):
    form = DeviceConfigForm
    list_filter = ("layer",)
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        (_("Document"), {"fields": ("layer", "document")}),
    )

    @display(description=_("Device"))
    def summary(self, configuration: Configuration) -> str:
        return str(configuration.layer)


if further_layers():
    admin.site.register(DeviceConfig, DeviceConfigAdmin)
