"""What the API of everything that is registered has in common."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.access import Access
from controlplane.api.errors import Conflict
from controlplane.api.pagination import Counted
from controlplane.api.versions import TaggedByVersion, tagged
from controlplane.api.writes import Writes
from controlplane.models.usage import named_by


class WithUsers(serializers.Serializer[Any]):
    """Adds the tasks that use a row. For a single row only: in a list it would take a query for each."""

    used_by = serializers.SerializerMethodField(help_text="Names of the tasks that use it.")

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_used_by(self, configuration: Any) -> list[str]:
        tasks = Access.of(self.context["request"]).visible(configuration.tasks.all())
        return list(tasks.values_list("name", flat=True))


class Scoped(Writes, viewsets.GenericViewSet[Any]):
    """Part of a view set: what its caller may not see does not exist."""

    def get_queryset(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset()
        # the schema is made without a caller
        return rows if getattr(self, "swagger_fake_view", False) else self.access.visible(rows)

    @property
    def access(self) -> Access:
        return Access.of(self.request)


class ConfigurationViewSet(TaggedByVersion, Scoped, viewsets.ModelViewSet[Any]):
    pagination_class = Counted
    filterset_fields = ["name"]
    orderings = MappingProxyType({"name": ("name", "pk"), "-name": ("-name", "-pk"), "id": ("pk",), "-id": ("-pk",)})
    #: Serializer of a single row; that of the list if left out.
    detail_serializer_class: type[Any] | None = None

    def get_serializer_class(self) -> type[Any]:
        return (self.action != "list" and self.detail_serializer_class) or super().get_serializer_class()

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().create(request, *args, **kwargs)
        response["Location"] = self.reverse_action("detail", [response.data["id"]])
        return tagged(response, response.data["version"])

    def perform_create(self, serializer: serializers.BaseSerializer[Any]) -> None:
        save_or_conflict(serializer)

    perform_update = perform_create

    def perform_destroy(self, instance: Model) -> None:
        try:
            with transaction.atomic():
                instance.delete()
        except ProtectedError as error:
            # all reasons at once: what documents name would otherwise be found only after the foreign keys
            raise Conflict(in_use({*error.protected_objects, *named_by(instance)})) from None


def save_or_conflict(serializer: serializers.BaseSerializer[Any], **fields: Any) -> None:
    try:
        with transaction.atomic():
            serializer.save(**fields)
    except IntegrityError:
        # validation passed, but meanwhile another request took the name or removed what this row refers to
        raise Conflict("Another request changed the same things at the same moment; try again.") from None


def in_use(by: Iterable[Model]) -> str:
    """Return the message that names what keeps a row from being deleted."""
    users = sorted(by, key=lambda row: (row._meta.verbose_name or "", str(row)))
    named = ", ".join(f"{row._meta.verbose_name} {row}" for row in users[:5])
    more = " and more" if len(users) > 5 else ""
    return f"It is used by {named}{more}: delete or change these first."
