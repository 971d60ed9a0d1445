"""The filter of a list of executions by their labels, and the labels on the page of one, which lead to that list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms.utils import ErrorList
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextInputWidget

from controlplane.admin.filters import MOST_SUGGESTED, SuggestingFilter
from controlplane.api.pagination import LABELLED
from executions.models import Execution, Label

#: Among how many of the newest executions labels are looked for that are suggested.
LOOKED_AT = 200


def labels_of(execution: Execution) -> list[tuple[str, str, str]]:
    """Return the labels of an execution, in the order of their keys: key, value, and the list of all that have it."""
    page = reverse("admin:executions_execution_changelist")
    found = sorted(execution.labels.items())
    return [(key, value, f"{page}?{urlencode({'label': f'{key}:{value}'})}") for key, value in found]


class _LabelsForm(forms.Form):
    """A field for each label that is asked for, and one for another. All are sent under the filter's name."""

    def __init__(self, name: str, texts: list[str], suggestions: list[str], problem: str) -> None:
        self._name, self.list_id, self.suggestions = name, f"{name}-suggestions", suggestions
        super().__init__()
        for number, text in enumerate([*texts, ""]):
            said = gettext("By another label") if number else gettext("By label, as key:value or key")
            attrs = {"id": f"id_{name}_{number}", "list": self.list_id, "autocomplete": "off"}
            widget = UnfoldAdminTextInputWidget(attrs=attrs)
            self.fields[f"{name}_{number}"] = forms.CharField(label=said, required=False, widget=widget, initial=text)
        if problem:
            self.errors[f"{name}_0"] = ErrorList([problem])

    def add_prefix(self, field_name: str) -> str:
        return self._name


class LabelFilter(SuggestingFilter):
    """Filters by labels, as the API does. It suggests those of the newest executions that its user sees."""

    title = _("label")
    parameter_name = "label"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.texts = [text for text in request.GET.getlist("label") if text]
        if self.texts:
            self.used_parameters["label"] = self.texts[0]
        #: What is wrong with what is asked for; empty if nothing is.
        self.problem = ""
        try:
            self._terms = Label.terms(self.texts)
        except ValidationError as error:
            self.problem = gettext("Label {text}: {problem}").format(text=self._wrong(), problem=error.messages[0])

    def _wrong(self) -> str:
        return next((text for text in self.texts if text.startswith(":")), self.texts[0]).replace("\0", "")

    def choices(self, changelist: Any) -> Iterator[Any]:
        some = sorted(set(self.suggestions()))[:MOST_SUGGESTED]
        yield {"form": _LabelsForm("label", self.texts[:20], some, self.problem)}

    def suggestions(self) -> Iterable[str]:
        newest = self.model_admin.get_queryset(self.request).order_by("-created_at", "-pk")
        for labels in newest.values_list("labels", flat=True)[:LOOKED_AT]:
            yield from (f"{key}:{value}" for key, value in labels.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.problem:
            return queryset.none()
        return Label.having(queryset, self._terms) if self._terms else queryset


class LabelledList(ChangeList):
    """A list that is ordered by the index of labels where it is filtered by them: a page then takes as many rows as it
    shows."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        names = super().get_ordering(request, queryset)
        if LABELLED not in queryset.query.annotations:
            return names
        return [name.replace("created_at", LABELLED) if isinstance(name, str) else name for name in names]
