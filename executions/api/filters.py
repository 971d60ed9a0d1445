"""Filters of the API that stay fast however much was run."""

from __future__ import annotations

from typing import Any

import django_filters
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.forms import Field, MultipleHiddenInput
from drf_spectacular.utils import extend_schema_field

from controlplane.models import PartySet, Pipeline, Task
from executions.models import Execution, Label, NodeRun, PipelineRun
from executions.states import PipelineStatus, Status


class NameFilter(django_filters.CharFilter):
    """Filters by the name of a registered row that what was run refers to."""

    def __init__(self, model: type[Model], field_name: str, by: str = "name", **kwargs: Any) -> None:
        super().__init__(field_name, **kwargs)
        self.model_named, self.by = model, by

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        """Return the rows that refer to the one of this name.

        Its key is looked up first: of a join the database does not know how many rows it finds, and goes through all
        that was ever run for a name with few runs.
        """
        if not value:
            return rows
        key = self.model_named._default_manager.filter(**{self.by: value}).values_list("pk", flat=True).first()
        return rows.none() if key is None else rows.filter(**{f"{self.field_name}_id": key})


class PartyNameFilter(django_filters.CharFilter):
    """Filters by a party that takes part, by the keys of all combinations that it is in."""

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        return rows.filter(party_set__in=PartySet.keys([value])) if value else rows


class PipelineRunIdFilter(django_filters.UUIDFilter):
    """Filters by the run of a pipeline, by the keys of its nodes."""

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        nodes = NodeRun.objects.filter(run=value).order_by().values_list("pk", flat=True) if value else ()
        return rows.filter(node__in=list(nodes)) if value else rows


class LabelTerms(Field):
    """Labels as ``key:value``, or a key alone: all that a query gives."""

    widget = MultipleHiddenInput

    def clean(self, value: Any) -> list[tuple[str, str | None]]:
        return Label.terms(value or [])


@extend_schema_field({"type": "array", "items": {"type": "string"}})
class LabelFilter(django_filters.Filter):
    """Filters by labels; ``label`` may be given several times, and all of them have to be there."""

    field_class = LabelTerms

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        return Label.having(rows, value) if value else rows


class Submitted(django_filters.FilterSet):
    """What all that was submitted can be filtered by."""

    party = PartyNameFilter(help_text="Name of a party that takes part.")
    submitted_by = NameFilter(User, "submitted_by", by="username", help_text="Name of the user who submitted it.")
    created_after = django_filters.IsoDateTimeFilter("created_at", lookup_expr="gte")
    created_before = django_filters.IsoDateTimeFilter("created_at", lookup_expr="lt")


class ExecutionFilter(Submitted):
    status = django_filters.MultipleChoiceFilter(choices=Status.choices)
    task = NameFilter(Task, "task", help_text="Name of the task.")
    task_type = django_filters.CharFilter()
    name = django_filters.CharFilter()
    label = LabelFilter(help_text="A label as key:value, or a key alone; give several to ask for all of them.")
    pipeline_run = PipelineRunIdFilter(help_text="Id of the run of a pipeline that it belongs to.")
    has_warnings = django_filters.BooleanFilter("has_warnings", help_text="Whether its result has warnings.")

    class Meta:
        model = Execution
        fields: list[str] = []


class PipelineRunFilter(Submitted):
    status = django_filters.MultipleChoiceFilter(choices=PipelineStatus.choices)
    pipeline = NameFilter(Pipeline, "pipeline", help_text="Name of the pipeline.")

    class Meta:
        model = PipelineRun
        fields: list[str] = []
