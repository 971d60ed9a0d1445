"""Serializers of submissions: what a service sends to run something, or for a dry run."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, PermissionDenied, ValidationError

from controlplane.access import NOT_COVERED, Access
from controlplane.api.errors import Overloaded
from controlplane.api.fields import DocumentField, KnownKeysOnly, NameOrId
from controlplane.documents.merge_patch import merged
from controlplane.environment import environment
from controlplane.models import Task
from executions.models import Execution, check_labels
from executions.states import Status
from workers.contract.layers import layers
from workers.contract.problems import DocumentsInvalid, closest


def check_room() -> None:
    """Raise Overloaded if as many executions are queued as may be."""
    most = environment.most_queued
    if Execution.objects.filter(status=Status.QUEUED).order_by().values("pk")[:most].count() >= most:
        raise Overloaded(f"{most:,} executions are queued already; try again later.")


class RunOptionsSerializer(serializers.ModelSerializer[Execution]):
    """Options of the run. An option that is left out is the task's, or the default."""

    class Meta:
        model = Execution
        fields = Execution.option_names()
        extra_kwargs: ClassVar[dict[str, Any]] = {name: {"required": False} for name in fields}


class LabelsField(serializers.DictField):
    """Keys and values of an execution."""

    def to_internal_value(self, data: Any) -> dict[str, str]:
        try:
            check_labels(data)
        except DjangoValidationError as error:
            raise ValidationError(getattr(error, "message_dict", None) or error.messages) from None
        return dict(data)


class ChangesSerializer(KnownKeysOnly):
    """Documents, each complete, and the options of the run."""

    name = serializers.CharField(max_length=100, required=False, allow_blank=True)
    labels = LabelsField(
        child=serializers.CharField(max_length=100, allow_blank=True),
        required=False,
        help_text="Keys and values by which lists can be filtered.",
    )
    deadline = serializers.DateTimeField(
        required=False, allow_null=True, help_text="It fails unless it has ended by this time."
    )

    def validate_deadline(self, deadline: datetime | None) -> datetime | None:
        if deadline is not None and deadline <= timezone.now():
            raise ValidationError("has passed already; give a time that is still to come, such as 2030-01-31T18:00:00Z")
        return deadline

    def get_fields(self) -> dict[str, Any]:
        # every registered layer, so that a new device needs no change here
        return (
            super().get_fields()
            | RunOptionsSerializer().get_fields()
            | {layer: DocumentField(layer=layer, required=False) for layer in layers()}
        )

    def documents(self) -> dict[str, Any]:
        given = self.validated_data
        return {layer: given[layer] for layer in layers() if layer in given}

    def options(self) -> dict[str, Any]:
        given = self.validated_data
        return {name: given[name] for name in Execution.option_names() if name in given}


class SubmissionSerializer(ChangesSerializer):
    """A submission: a registered task, a task with some of its documents changed, or the documents themselves."""

    task = NameOrId(queryset=Task.objects.select_related("cluster", "spu", "heu"), required=False)
    overrides = serializers.DictField(
        required=False,
        help_text="Changes to the task's documents, by layer, as a JSON Merge Patch (RFC 7396): keys replace what the "
        'task has, null takes a key away. For example {"task_config": {"outputs": {"alice": "today"}}}.',
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [layer for layer in layers() if layer in attrs]
        if "task" in attrs and given:
            raise ValidationError(
                {"task": [f"give either a task or documents, not both; leave out {', '.join(given)}"]}
            )
        if "overrides" in attrs and "task" not in attrs:
            raise ValidationError({"overrides": ["change a task's documents: name the task, too"]})
        if unknown := [layer for layer in attrs.get("overrides", {}) if layer not in layers()]:
            raise ValidationError({"overrides": {unknown[0]: [f"is no document; {closest(unknown[0], layers())}"]}})
        if "task" not in attrs and not given:
            raise ValidationError(
                "nothing to run; give a task by name or id, or the documents sf_init_config, spu_config, heu_config "
                "and task_config"
            )
        return attrs

    def validate_task(self, task: Task) -> Task:
        if not Access.of(self.context["request"]).covers(task):
            raise PermissionDenied(NOT_COVERED)
        return task

    def documents(self) -> dict[str, Any]:
        own = self._task_documents()
        return super().documents() if own is None else merged(own, self.validated_data.get("overrides", {}))

    def _task_documents(self) -> dict[str, Any] | None:
        """Return the documents of the task as they are; None if no task was named."""
        task: Task | None = self.validated_data.get("task")
        try:
            return task.documents() if task else None
        except DocumentsInvalid as error:
            raise invalid(error) from None

    def save(self, **kwargs: Any) -> Execution:
        given = self.validated_data
        task: Task | None = given.get("task")
        documents, own = self.documents(), self._task_documents()
        options = (task.options() if task else {}) | self.options()
        try:
            return Execution.objects.submit(
                documents,
                task=task if documents == own else None,  # with other documents it is not that task's
                name=given.get("name") or (task.name if task else ""),
                options=options,
                before=own,
                within=Access.of(self.context["request"]).parties,
                labels=given.get("labels"),
                deadline=given.get("deadline"),
                **kwargs,
            )
        except DocumentsInvalid as error:
            raise invalid(error) from None


def invalid(error: DocumentsInvalid) -> ValidationError:
    """Return the API's validation error for invalid documents, with every problem at its path."""
    details: dict[str, list[ErrorDetail]] = {}
    for problem in error.problems:
        details.setdefault(problem.path, []).append(ErrorDetail(problem.message, "document"))
    return ValidationError(details)
