"""The REST API of what an operator registers, and the parts that all of the API is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any, ClassVar

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import generics, serializers, viewsets
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.routers import SimpleRouter
from rest_framework.settings import api_settings

from controlplane.errors import Conflict, ErrorBody
from controlplane.field_errors import named_errors
from controlplane.models import (
    ClusterConfig,
    Dataset,
    DeviceConfig,
    HEUConfig,
    Party,
    Site,
    SPUConfig,
    Task,
)
from controlplane.task_types import TaskTypeViewSet
from controlplane.usage import named_by
from workers.contract.layers import model_of
from workers.contract.problems import closest
from workers.contract.registry import TASK_EXECUTOR_REGISTRY, further_layers
from workers.contract.secrets import masked_document


class KnownKeysOnly(serializers.Serializer[Any]):
    """Refuses keys it does not know, each with the closest name that it does. Read-only keys may come back in."""

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
        """The document among the fields that has such a key, the task's first; empty where none has."""
        layers = {name: field.layer for name, field in self.fields.items() if isinstance(field, DocumentField)}
        having = [n for n, layer in layers.items() if key == layer or key in model_of(layer).model_fields]
        return min(having, key=lambda name: name != "task_config", default="")


class ModelCleaned(KnownKeysOnly, serializers.ModelSerializer[Any]):
    """Validates with the model's own ``full_clean``: the API and the admin cannot disagree."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        meta: Any = self.Meta
        instance: Model = copy(self.instance) if self.instance else meta.model()
        for name, value in attrs.items():
            setattr(instance, name, value)
        try:
            instance.full_clean()
        except DjangoValidationError as error:
            raise ValidationError(_details(error)) from None
        return {name: getattr(instance, name) for name in attrs}  # a document's secrets are encrypted now


def _details(error: DjangoValidationError) -> dict[str, list[ErrorDetail]]:
    """Django's errors by field; those of a document under the path that their ``params`` name."""
    found: dict[str, list[ErrorDetail]] = {}
    for name, path, entry in named_errors(error):
        name_in_api = api_settings.NON_FIELD_ERRORS_KEY if name == "__all__" else name
        key = f"{name_in_api}.{path}" if path else name_in_api
        message = entry.messages[0].removeprefix(f"{path}: ")
        found.setdefault(key, []).append(ErrorDetail(message, entry.code or "invalid"))
    return found


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "integer"}], "description": "Name; the id is taken too."})
class NameOrId(serializers.RelatedField[Any, Any, Any]):
    """Shows a related row by its name and takes its name or its id."""

    default_error_messages = {
        "missing": "there is none of this name or id; {remedy}",
        "incorrect_type": "has a wrong type; give a name or an id",
        "empty": "is empty; give a name or an id",
    }

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data == "":  # DRF would take it for null
            self.fail("empty")
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, int | str):
            self.fail("incorrect_type")
        rows: Any = self.get_queryset()
        found = rows.filter(**({"name": data} if isinstance(data, str) else {"pk": data})).first()
        if found is None:
            names = list(rows.order_by("name").values_list("name", flat=True)[:500])
            self.fail("missing", remedy=closest(str(data), names))
        return found

    def to_representation(self, value: Any) -> str:
        return str(value.name)


class DocumentField(serializers.JSONField):
    """A document of one layer. Its structure in the API schema is the pydantic model's; its check the model's clean."""

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


class PartySerializer(ModelCleaned):
    class Meta:
        model = Party
        fields = ["id", "name", "description", "address", "port_first", "port_last", "public_key", "version"]


class DatasetSerializer(ModelCleaned):
    party = NameOrId(queryset=Party.objects.all())
    drift = serializers.ListField(
        child=serializers.CharField(),
        read_only=True,
        help_text="How the table on the party's host differs from what is registered, as far as the host has said.",
    )

    class Meta:
        model = Dataset
        reported: ClassVar[list[str]] = ["alignment", "reported_columns", "reported_rows", "reported_at", "drift"]
        fields = [
            *("id", "party", "name", "description", "columns", "key_columns", "produced_by", "version"),
            *reported,
        ]
        # the model's own constraint says it, in the admin's words
        validators: list[Any] = []
        read_only_fields = ["produced_by", *reported]


CONFIGURATION = ["id", "name", "description", "document", "version", "updated_at"]


class ClusterConfigSerializer(ModelCleaned):
    document = DocumentField(layer="sf_init_config")

    class Meta:
        model = ClusterConfig
        fields = CONFIGURATION


class SPUConfigSerializer(ModelCleaned):
    document = DocumentField(layer="spu_config", required=False)

    class Meta:
        model = SPUConfig
        fields = CONFIGURATION


class HEUConfigSerializer(ModelCleaned):
    document = DocumentField(layer="heu_config", required=False)

    class Meta:
        model = HEUConfig
        fields = CONFIGURATION


class DeviceConfigSerializer(ModelCleaned):
    class Meta:
        model = DeviceConfig
        fields = ["layer", *CONFIGURATION]

    def to_representation(self, instance: DeviceConfig) -> dict[str, Any]:
        shown = super().to_representation(instance)
        return shown | {"document": masked_document(instance.layer, instance.document)}


class WithUsers(serializers.Serializer[Any]):
    """A configuration by itself, as opposed to in a list, where it would take a query for each."""

    used_by = serializers.SerializerMethodField(help_text="Names of the tasks that use it.")

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_used_by(self, configuration: Any) -> list[str]:
        return list(configuration.tasks.values_list("name", flat=True))


class ClusterConfigDetailSerializer(WithUsers, ClusterConfigSerializer):
    class Meta(ClusterConfigSerializer.Meta):
        fields = [*CONFIGURATION, "used_by"]


class SPUConfigDetailSerializer(WithUsers, SPUConfigSerializer):
    class Meta(SPUConfigSerializer.Meta):
        fields = [*CONFIGURATION, "used_by"]


class HEUConfigDetailSerializer(WithUsers, HEUConfigSerializer):
    class Meta(HEUConfigSerializer.Meta):
        fields = [*CONFIGURATION, "used_by"]


class TaskSerializer(ModelCleaned):
    cluster = NameOrId(queryset=ClusterConfig.objects.all())
    spu = NameOrId(queryset=SPUConfig.objects.all(), allow_null=True, required=False)
    heu = NameOrId(queryset=HEUConfig.objects.all(), allow_null=True, required=False)
    document = DocumentField(layer="task_config")

    class Meta:
        model = Task
        fields = [
            "id",
            "name",
            "description",
            "cluster",
            "spu",
            "heu",
            "devices",
            "document",
            *Task.option_names(),
            "version",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["created_at"]


class SiteSerializer(ModelCleaned):
    class Meta:
        model = Site
        fields = ["environment", "security", "version"]


@extend_schema_view(destroy=extend_schema(responses={204: None, 409: ErrorBody}))
class ConfigurationViewSet(viewsets.ModelViewSet[Any]):
    filterset_fields = ["name"]
    #: One by itself; the same as in a list if left out.
    detail_serializer_class: type[Any] | None = None

    def get_serializer_class(self) -> type[Any]:
        return (self.action != "list" and self.detail_serializer_class) or super().get_serializer_class()

    def perform_create(self, serializer: serializers.BaseSerializer[Any]) -> None:
        save_or_conflict(serializer)

    perform_update = perform_create

    def perform_destroy(self, instance: Model) -> None:
        try:
            with transaction.atomic():
                instance.delete()
        except ProtectedError as error:
            # all of them: what a document names is asked only after the foreign keys
            raise Conflict(in_use({*error.protected_objects, *named_by(instance)})) from None


def save_or_conflict(serializer: serializers.BaseSerializer[Any], **fields: Any) -> None:
    try:
        with transaction.atomic():
            serializer.save(**fields)
    except IntegrityError:
        # validation found nothing: another request took the name, or removed what this one refers to, in between
        raise Conflict("Another request changed the same things at the same moment; try again.") from None


def in_use(by: Iterable[Model]) -> str:
    """Names what keeps a row from being deleted."""
    users = sorted(by, key=lambda row: (row._meta.verbose_name or "", str(row)))
    named = ", ".join(f"{row._meta.verbose_name} {row}" for row in users[:5])
    more = f" and {len(users) - 5} more" if len(users) > 5 else ""
    return f"It is used by {named}{more}: delete or change these first."


class PartyViewSet(ConfigurationViewSet):
    queryset = Party.objects.all()
    serializer_class = PartySerializer


class DatasetViewSet(ConfigurationViewSet):
    queryset = Dataset.objects.select_related("party")
    serializer_class = DatasetSerializer
    filterset_fields = ["name", "party__name", "produced_by"]


class ClusterConfigViewSet(ConfigurationViewSet):
    queryset = ClusterConfig.objects.all()
    serializer_class = ClusterConfigSerializer
    detail_serializer_class = ClusterConfigDetailSerializer


class SPUConfigViewSet(ConfigurationViewSet):
    queryset = SPUConfig.objects.all()
    serializer_class = SPUConfigSerializer
    detail_serializer_class = SPUConfigDetailSerializer


class HEUConfigViewSet(ConfigurationViewSet):
    queryset = HEUConfig.objects.all()
    serializer_class = HEUConfigSerializer
    detail_serializer_class = HEUConfigDetailSerializer


class DeviceConfigViewSet(ConfigurationViewSet):
    queryset = DeviceConfig.objects.all()
    serializer_class = DeviceConfigSerializer
    filterset_fields = ["name", "layer"]


class TaskViewSet(ConfigurationViewSet):
    queryset = Task.objects.select_related("cluster", "spu", "heu")
    serializer_class = TaskSerializer


class SiteView(generics.RetrieveUpdateAPIView[Site]):
    """The environment that this is, and the tier of its checks of security."""

    queryset = Site.objects.all()
    serializer_class = SiteSerializer

    def get_object(self) -> Site:
        return Site.current()

    def perform_update(self, serializer: serializers.BaseSerializer[Any]) -> None:
        save_or_conflict(serializer)


router = SimpleRouter()
router.register("parties", PartyViewSet)
router.register("datasets", DatasetViewSet)
router.register("cluster-configs", ClusterConfigViewSet)
router.register("spu-configs", SPUConfigViewSet)
router.register("heu-configs", HEUConfigViewSet)
if further_layers():
    router.register("device-configs", DeviceConfigViewSet)
router.register("tasks", TaskViewSet)
router.register("task-types", TaskTypeViewSet, basename="task-type")
