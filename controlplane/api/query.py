"""What stands behind the question mark of an address: refused if it is not known, instead of ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar

from django_filters import BooleanFilter
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.settings import api_settings

from workers.contract.problems import closest

FIELDS = "fields"


def whole_number(text: str, digits: int) -> int | None:
    """Return the number that a text is, of so many digits at most; None if it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else None


class StrictQuery:
    """Part of a view: refuses parameters that it does not know."""

    #: By action, the serializer of the parameters that it takes.
    queries: ClassVar[Mapping[str, type[serializers.Serializer[Any]]]] = {}
    #: Actions that answer a page of a list.
    paged: ClassVar[frozenset[str]] = frozenset({"list"})
    #: By name, the orders that a list can have.
    orderings: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    action: str
    pagination_class: Any
    asked: dict[str, Any]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if not hasattr(self, str(request.method).lower()):
            return  # it is refused as such, whatever else is wrong
        taken = set(self.parameters(request))
        errors: dict[str, Any] = {}
        for name in request.query_params:
            if name not in taken:
                known = f"; {closest(name, sorted(taken))}" if taken else "; this request takes none"
                errors[name] = [ErrorDetail(f"unknown parameter{known}", "unknown_parameter")]
        for name, found in self._filters.items():
            given = request.query_params.get(name, "").lower()
            if isinstance(found, BooleanFilter) and given not in ("", "true", "false"):  # it would be ignored
                errors[name] = [ErrorDetail("should be true or false", "invalid")]
        query = self.queries.get(self._action)
        if query:
            asked = query(data=request.query_params.dict())
            if not asked.is_valid():
                errors |= asked.errors
            else:
                self.asked = dict(asked.validated_data)
        if errors:
            raise ValidationError(errors)

    @property
    def _action(self) -> str:
        return getattr(self, "action", None) or ""

    def parameters(self, request: Request) -> Iterable[str]:
        """Yield the names of the parameters that this request may have."""
        if query := self.queries.get(self._action):
            yield from query().fields.keys()
        if self._action in self.paged:
            yield from self.pagination_class.parameters
        if self._is_list:
            yield from self._filters
            if self.orderings:
                yield api_settings.ORDERING_PARAM
        if self._is_list or self._action == "retrieve":
            yield FIELDS

    @cached_property
    def _filters(self) -> Mapping[str, Any]:
        """Return the filters of a list by their names; of anything else, none. To find them may make a class, so it is
        done once for a request."""
        view: Any = self
        backends = view.filter_backends if self._is_list else ()
        sets = [found().get_filterset_class(view, view.queryset) for found in backends]
        return {name: each for filters in sets if filters for name, each in filters.base_filters.items()}

    @property
    def _is_list(self) -> bool:
        return self._action == "list" and "list" in self.paged

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Return the serializer, of only the fields that are asked for."""
        made: Any = super().get_serializer(*args, **kwargs)  # type: ignore[misc]
        wanted = self.request.query_params.get(FIELDS) if self._action in ("list", "retrieve") else None  # type: ignore[attr-defined]
        if wanted is not None:
            row = getattr(made, "child", made)
            names = [name.strip() for name in wanted.split(",")]
            if unknown := [name for name in names if name not in row.fields]:
                told = closest(unknown[0], list(row.fields))
                raise ValidationError(
                    {FIELDS: [ErrorDetail(f"{unknown[0]!r} is no field of this answer; {told}", "unknown_field")]}
                )
            for name in set(row.fields) - set(names):
                row.fields.pop(name)
        return made
