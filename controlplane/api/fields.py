"""Base classes and fields of the API's serializers."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import Model
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, PermissionDenied, ValidationError
from rest_framework.settings import api_settings

from controlplane.access import NOT_COVERED, Access
from controlplane.documents.errors import named_errors
from workers.contract.layers import model_of
from workers.contract.problems import closest
from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.contract.secrets import masked_document


class KnownKeysOnly(serializers.Serializer[Any]):
    """Refuses unknown keys, each with the closest known name. Accepts and ignores read-only keys."""

    def to_internal_value(self, data: Any) -> Any:
        errors: dict[str, Any] = {}
        if isinstance(data, Mapping):
            writable = [name for name, field in self.fields.items() if not field.read_only]
            for key in data:
                if key not in self.fields:
                    place = self._place_of(key)
                    remedy = f"belongs into {place}" if place else closest(str(key), writable)
                    errors[key] = [ErrorDetail(f"unknown key; {remedy}", "unknown_key")]
        try:
            value = super().to_internal_value(data)
        except ValidationError as error:
            raise ValidationError(
                {**error.detail, **errors} if isinstance(error.detail, dict) else error.detail
            ) from None
        if errors:
            raise ValidationError(errors)
        return value

    def _place_of(self, key: Any) -> str:
        """Return the field whose document has such a key, the task's first; empty if none has."""
        layers = {name: field.layer for name, field in self.fields.items() if isinstance(field, DocumentField)}
        having = [n for n, layer in layers.items() if key == layer or key in model_of(layer).model_fields]
        return min(having, key=lambda name: name != "task_config", default="")


class ModelCleaned(KnownKeysOnly, serializers.ModelSerializer[Any]):
    """Validates with the model's own ``full_clean``, so that the API and the admin always agree."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        meta: Any = self.Meta
        instance: Model = copy(self.instance) if self.instance else meta.model()
        for name, value in attrs.items():
            setattr(instance, name, value)
        access = Access.of(self.context["request"])
        instance.within = access.parties  # type: ignore[attr-defined]
        # Before the checks where it can be told: they would say that the other parties do not exist
        if not meta.model.names_parties and not access.covers(instance):
            raise PermissionDenied(NOT_COVERED)
        try:
            instance.full_clean()
        except DjangoValidationError as error:
            raise ValidationError(_details(error)) from None
        if not access.covers(instance):
            raise PermissionDenied(NOT_COVERED)
        return {name: getattr(instance, name) for name in attrs}  # full_clean has encrypted the document's secrets


def _details(error: DjangoValidationError) -> dict[str, list[ErrorDetail]]:
    """Return Django's errors by field; errors of a document by the path in their ``params``."""
    found: dict[str, list[ErrorDetail]] = {}
    for name, path, entry in named_errors(error):
        name_in_api = api_settings.NON_FIELD_ERRORS_KEY if name == "__all__" else name
        key = f"{name_in_api}.{path}" if path else name_in_api
        message = entry.messages[0].removeprefix(f"{path}: ")
        found.setdefault(key, []).append(ErrorDetail(message, entry.code or "invalid"))
    return found


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "integer"}], "description": "Name; the id is taken too."})
class NameOrId(serializers.RelatedField[Any, Any, Any]):
    """Shows a related row by its name and takes its name or its id. What its user may not see does not exist."""

    default_error_messages = {
        "missing": "there is none of this name or id; {remedy}",
        "unseen": "names something that you may not see; ask for the permission to view {rows}",
        "incorrect_type": "has a wrong type; give a name or an id",
        "empty": "is empty; give a name or an id",
    }

    def __init__(self, *, needs_view: bool = True, **kwargs: Any) -> None:
        """``needs_view``: whether naming one takes the permission to view or to change such rows."""
        self.needs_view = needs_view
        super().__init__(**kwargs)

    def get_queryset(self) -> Any:
        rows: Any = super().get_queryset()
        return Access.of(self.context["request"]).visible(rows)

    def _may_see(self, model: type[Model]) -> bool:
        access, named = Access.of(self.context["request"]), model._meta.label_lower.replace(".", ".{}_")
        return not self.needs_view or any(access.may(named.format(verb)) for verb in ("view", "change"))

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data == "":  # DRF would read it as null
            self.fail("empty")
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, int | str):
            self.fail("incorrect_type")
        rows: Any = self.get_queryset()
        if not self._may_see(rows.model):  # whether there is one of this name or not
            self.fail("unseen", rows=rows.model._meta.verbose_name_plural)
        found = rows.filter(**({"name": data} if isinstance(data, str) else {"pk": data})).first()
        if found is None:
            names = list(rows.order_by("name").values_list("name", flat=True)[:500])
            self.fail("missing", remedy=closest(str(data), names))
        return found

    def to_representation(self, value: Any) -> str:
        return str(value.name)


class DocumentField(serializers.JSONField):
    """A document of one layer. The API schema takes its structure from the pydantic model; the Django model checks
    it."""

    def __init__(self, *, layer: str, **kwargs: Any) -> None:
        self.layer = layer
        super().__init__(**kwargs)

    def to_representation(self, value: Any) -> Any:
        return masked_document(self.layer, super().to_representation(value))


class DocumentFieldSchema(OpenApiSerializerFieldExtension):
    target_class = DocumentField

    def map_serializer_field(self, auto_schema: Any, direction: str) -> Any:
        model = model_of(self.target.layer)
        self.registry, self.prefix = auto_schema.registry, f"{model.__name__}Document"
        schema = self._schema(model)
        if self.target.layer == "task_config":
            # each task type's own parameters, under its own key
            schema["properties"]["task_type"]["enum"] = sorted(TASK_EXECUTOR_REGISTRY)
            schema["properties"]["algorithm_params"] = {
                "oneOf": [
                    {
                        "title": executor.title,
                        "type": "object",
                        "properties": {executor.params_key: self._component(executor.Params.__name__, executor.Params)},
                        "required": [] if executor.has_defaults() else [executor.params_key],
                        "additionalProperties": False,
                    }
                    for executor in TASK_EXECUTOR_REGISTRY.values()
                ]
            }
        return self._register("", schema)

    def _component(self, name: str, model: Any) -> Any:
        return self._register(name, self._schema(model))

    def _schema(self, model: Any) -> dict[str, Any]:
        schema: dict[str, Any] = model.model_json_schema(ref_template=f"#/components/schemas/{self.prefix}{{model}}")
        for name, part in schema.pop("$defs", {}).items():
            self._register(name, part)
        return schema

    def _register(self, name: str, schema: dict[str, Any]) -> Any:
        component = ResolvedComponent(
            name=f"{self.prefix}{name}", type=ResolvedComponent.SCHEMA, schema=schema, object=f"{self.prefix}{name}"
        )
        self.registry.register_on_missing(component)
        return component.ref
