"""Filters of the API that stay fast however much was run."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import Model, QuerySet


class NameFilter(django_filters.CharFilter):
    """Filters by the name of a registered row that what was run refers to."""

    def __init__(self, model: type[Model], field_name: str, **kwargs: Any) -> None:
        super().__init__(field_name, **kwargs)
        self.model_named = model

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        """Return the rows that refer to the one of this name.

        Its key is looked up first: of a join the database does not know how many rows it finds, and goes through all
        that was ever run for a name with few runs.
        """
        if not value:
            return rows
        key = self.model_named._default_manager.filter(name=value).values_list("pk", flat=True).first()
        return rows.none() if key is None else rows.filter(**{f"{self.field_name}_id": key})
