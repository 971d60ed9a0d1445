"""The admin of parties and their datasets."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display

from controlplane.admin.base import ConfigAdmin
from controlplane.admin.confirm import confirm_page
from controlplane.admin.filters import KindFilter, StateFilter
from controlplane.admin.scoped import ScopedSelectFilter
from controlplane.admin.shown import NOTHING, first_names, link
from controlplane.forms.dataset import DatasetForm
from controlplane.language import translated
from controlplane.models import (
    Dataset,
    Party,
)
from controlplane.models.dataset import AS_REGISTERED, DIFFERS, NOT_REPORTED, OUTPUT, UNREADABLE
from workers.contract.alignment import DECLARED
from workers.contract.catalogue import TABLE


@admin.register(Party)
class PartyAdmin(ConfigAdmin):
    list_display: Any = ("name", "description", "address", "ports", "dataset_count")
    none_yet = _("No party yet. Add at least two: each with the address and ports of its host.")
    csv_columns = (
        ("name", "name"), ("description", "description"), ("address", "address"), ("first port", "port_first"),
        ("last port", "port_last"), ("datasets", "dataset_count"),
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        (_("Network"), {"fields": ("address", "port_first", "port_last")}),
        (pgettext_lazy("of a party", "Keys"), {"fields": ("signing_keys", "public_key")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Party]:
        datasets = Dataset.objects.filter(party=OuterRef("pk")).order_by().values("party")
        # Counted for those that are shown; a join would go through all of every party
        number = Subquery(datasets.annotate(number=Count("pk")).values("number"))
        return super().get_queryset(request).annotate(dataset_count=Coalesce(number, 0))

    @display(description=_("Ports"))
    def ports(self, party: Party) -> str:
        return f"{party.port_first}-{party.port_last}"

    @display(description=_("Datasets"), ordering="dataset_count")
    def dataset_count(self, party: Any) -> int:
        return int(party.dataset_count)


@admin.register(Dataset)
class DatasetAdmin(ConfigAdmin):
    form = DatasetForm
    list_display = (
        "name", "party", "kind", "column_names", "keys", "shown_rows", "shown_state", "shown_maker", "description"
    )  # fmt: skip
    list_filter = (("party", ScopedSelectFilter), StateFilter, KindFilter)
    none_yet = _("No dataset yet. Run manage.py publish_datasets on a party's host, or add one.")
    csv_columns = (
        ("party", "party"), ("name", "name"), ("kind", "kind"), ("state", "state"),
        ("columns", lambda dataset: " ".join(dataset.columns)), ("keys", lambda row: " ".join(row.key_columns)),
        ("rows", "reported_rows"), ("reported", "reported_at"), ("made by", "produced_by"),
        ("differences", lambda dataset: "; ".join(dataset.drift)), ("description", "description"),
    )  # fmt: skip
    list_filter_submit = True
    list_select_related = ("party",)
    autocomplete_fields = ("party",)
    fieldsets = (
        (None, {"fields": ("party", "name", "description")}),
        (
            _("Columns"),
            {
                "fields": ("columns",),
                "description": _(
                    "A type that you write here holds in checks and runs, such as str for a code, unless "
                    "party.toml on the party's host declares another one. Text does not become a number by it."
                ),
            },
        ),
        (_("On the party's host"), {"fields": ("shown_report", "shown_alignment")}),
    )
    readonly_fields = ("shown_report", "shown_alignment")
    actions_detail = ("take_over",)

    @display(description=_("Columns"))
    def column_names(self, dataset: Dataset) -> str:
        return first_names(list(dataset.columns))

    @display(
        description=_("State"),
        label={AS_REGISTERED: "success", DIFFERS: "warning", UNREADABLE: "danger", NOT_REPORTED: "", OUTPUT: "info"},
    )
    def shown_state(self, dataset: Dataset) -> tuple[str, str]:
        return dataset.state, translated(dataset.state)

    @display(description=_("Rows"), ordering="reported_rows")
    def shown_rows(self, dataset: Dataset) -> str:
        return NOTHING if dataset.reported_rows is None else f"{dataset.reported_rows:,}"

    @display(description=_("Made by"))
    def shown_maker(self, dataset: Dataset) -> Any:
        if dataset.produced_by is None:
            return NOTHING
        page = reverse("admin:executions_execution_change", args=[dataset.produced_by])
        return link(page, str(dataset.produced_by)[:8])

    @display(description=_("Reported"))
    def shown_report(self, dataset: Dataset) -> str:
        if dataset.reported_at is None:
            return gettext(
                "nothing yet; `manage.py publish_datasets` on the party's host tells what its tables look like"
            )
        rows = (
            "" if dataset.reported_rows is None else gettext(", {number:,} rows").format(number=dataset.reported_rows)
        )
        found = translated("; ".join(dataset.drift)) or gettext("as registered")
        return gettext("{found}{rows} ({at:%Y-%m-%d %H:%M} UTC)").format(found=found, rows=rows, at=dataset.reported_at)

    @display(description=_("Order of rows"))
    def shown_alignment(self, dataset: Dataset) -> str:
        if dataset.kind != TABLE:
            return "-"
        if not dataset.alignment:
            return gettext(
                "Unknown. Tasks whose rows must line up refuse it; run a PSI first, or declare alignment in party.toml."
            )
        if dataset.alignment.startswith(DECLARED):
            name = dataset.alignment.removeprefix(DECLARED)
            return gettext(
                "Declared as {name!r} in party.toml: lines up with other parties' tables of this name."
            ).format(name=name)
        page = reverse("admin:executions_execution_change", args=[dataset.alignment[:36]])
        return format_html(
            gettext(
                'Made by <a href="{}" class="text-link">execution {}</a>: lines up with the other tables of that order.'
            ),
            page, dataset.alignment[:8],
        )  # fmt: skip

    def has_take_over_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        dataset = self.get_object(request, str(object_id)) if object_id else None
        return bool(
            dataset and dataset.reported_columns and dataset.drift and self.has_change_permission(request, dataset)
        )

    # a link, as unfold's actions are: only posting the form that it leads to changes anything
    @action(description=_("Accept reported schema"), icon="sync", permissions=("take_over",), url_path="take-over")
    def take_over(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Register the columns as the party's host reported them."""
        dataset = self.get_object(request, object_id)
        if dataset is None or not dataset.reported_columns or not self.has_change_permission(request, dataset):
            raise Http404("There is no reported schema that differs.")
        page = reverse("admin:controlplane_dataset_change", args=[dataset.pk])
        if request.method != "POST":
            facts = [(gettext("What changes"), translated("; ".join(dataset.drift)))]
            return confirm_page(
                self,
                request,
                gettext("Register {dataset} as its host reported it?").format(dataset=dataset),
                gettext("Accept"),
                page,
                facts=facts,
            )
        dataset.columns = dataset.reported_columns
        dataset.key_columns = [key for key in dataset.key_columns if key in dataset.columns]
        try:
            dataset.full_clean()
        except ValidationError as error:
            messages.error(request, "; ".join(error.messages))
            return HttpResponseRedirect(page)
        self.save_model(request, dataset, None, change=True)
        messages.success(request, gettext("{dataset} is registered as its host reported it.").format(dataset=dataset))
        self.tell_effect(request)
        return HttpResponseRedirect(page)

    @display(description=_("Keys"))
    def keys(self, dataset: Dataset) -> str:
        return ", ".join(dataset.key_columns)
