"""Filters of lists by a name that is typed, with suggestions: also where there are many to choose from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextInputWidget

from controlplane.access import Access
from controlplane.language import translated
from controlplane.models import Dataset, Party, PartySet
from controlplane.models.dataset import STATES
from workers.contract.registry import TASK_EXECUTOR_REGISTRY

MOST_SUGGESTED = 200


class _SuggestingForm(forms.Form):
    def __init__(self, name: str, label: str, suggestions: list[str], data: Any) -> None:
        super().__init__(data)
        widget = UnfoldAdminTextInputWidget(attrs={"list": f"{name}-suggestions", "autocomplete": "off"})
        self.fields[name] = forms.CharField(label=label, required=False, widget=widget)
        self.list_id, self.suggestions = f"{name}-suggestions", suggestions


class SuggestingFilter(admin.SimpleListFilter):
    """Filters by a whole name. What it suggests, its user sees anyway."""

    template = "controlplane/suggesting_filter.html"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.request, self.model_admin = request, model_admin

    def lookups(self, request: HttpRequest, model_admin: Any) -> tuple[()]:
        return ()

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        name = str(self.parameter_name)
        some = sorted(set(self.suggestions()))[:MOST_SUGGESTED]
        yield {
            "form": _SuggestingForm(
                name, gettext("By {title}").format(title=self.title), some, {name: self.value() or ""}
            )
        }

    def suggestions(self) -> Iterable[str]:
        """Return names to choose from."""
        raise NotImplementedError

    def named(self, rows: QuerySet[Any], name: str) -> QuerySet[Any]:
        """Return those of the rows that belong to this name."""
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = (self.value() or "").strip()
        if "\0" in name:
            return queryset.none()
        return self.named(queryset, name) if name else queryset


class PartyFilter(SuggestingFilter):
    """Filters by a party that takes part."""

    title = parameter_name = "party"
    #: Field with the set of parties.
    path = "party_set"

    def suggestions(self) -> Iterable[str]:
        parties = Access.of(self.request).visible(Party.objects.order_by("name"))
        return parties.values_list("name", flat=True)[:MOST_SUGGESTED]

    def named(self, rows: QuerySet[Any], name: str) -> QuerySet[Any]:
        return rows.filter(**{f"{self.path}__in": PartySet.keys([name])})


class ClusterPartyFilter(PartyFilter):
    """Filters tasks by a party of their cluster."""

    path = "cluster__party_set"


class ChoiceFilter(admin.SimpleListFilter):
    """Filters by one of some words; any other word finds nothing."""

    def named(self, rows: QuerySet[Any], word: str) -> QuerySet[Any]:
        """Return those of the rows that this word is about."""
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        word = self.value()
        if not word:
            return queryset
        known = {name for name, _ in self.lookup_choices}
        return self.named(queryset, word) if word in known else queryset.none()


class TaskTypeFilter(ChoiceFilter):
    """Offers the registry's task types: collecting the distinct values of a large table would be slow."""

    title = _("task type")
    parameter_name = "task_type"
    #: Field with the task type.
    path = "task_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, translated(executor.title)) for name, executor in TASK_EXECUTOR_REGISTRY.items()]

    def named(self, rows: QuerySet[Any], word: str) -> QuerySet[Any]:
        return rows.filter(**{self.path: word})


class DocumentTypeFilter(TaskTypeFilter):
    """Filters tasks by the task type in their document."""

    path = "document__task_type"


class StateFilter(ChoiceFilter):
    """Filters datasets by what their party's host has reported."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, translated(state)) for state in STATES]

    def named(self, rows: QuerySet[Any], word: str) -> QuerySet[Any]:
        return Dataset.in_state(rows, word)


class KindFilter(ChoiceFilter):
    """Filters datasets by what they are: tables, models, rules."""

    title = parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = model_admin.get_queryset(request).order_by("kind").values_list("kind", flat=True)
        return [(kind, kind) for kind in rows.distinct()]

    def named(self, rows: QuerySet[Any], word: str) -> QuerySet[Any]:
        return rows.filter(kind=word)
