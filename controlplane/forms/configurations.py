"""The admin's forms for what an operator registers."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext
from unfold.widgets import UnfoldAdminSelectWidget

from controlplane.forms.document import DocumentForm
from controlplane.forms.schema import Offer, Schema, form_schema, label
from controlplane.models import (
    Configuration,
    Parties,
    Party,
)
from workers.contract.layers import model_of
from workers.contract.registry import further_layers


def all_parties(within: Parties = None) -> list[str]:
    """Return the names of all parties, or of those of ``within`` that are registered."""
    return list(Party.rows_within(within).values_list("name", flat=True))


class ConfigurationForm(DocumentForm):
    @property
    def layer(self) -> str:
        model: type[Configuration] = self._meta.model
        return str(model.layer)

    def make_schema(self) -> Schema:
        return form_schema(model_of(self.layer), Offer(all_parties(self.within)))


class DeviceConfigForm(ConfigurationForm):
    """The form of a device's document; its fields depend on the device."""

    def prepare(self) -> None:
        if "layer" in self.fields:
            field: Any = forms.ChoiceField(
                choices=[(layer, label(layer)) for layer in further_layers()],
                widget=UnfoldAdminSelectWidget(attrs={"data-rebuild": ""}),
                help_text=gettext("The form below changes with it."),
            )
            self.fields["layer"] = field

    @property
    def layer(self) -> str:
        chosen: Any = self["layer"].value() if "layer" in self.fields else self.instance.layer
        return chosen if chosen in further_layers() else further_layers()[0]
