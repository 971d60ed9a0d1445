"""Serializers of submissions: what a service sends to run something, or for a dry run."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, PermissionDenied, ValidationError

from controlplane.access import NOT_COVERED, Access
from controlplane.api.fields import DocumentField, KnownKeysOnly, NameOrId
from controlplane.models import Task
from executions.models import Execution
from workers.contract.layers import layers
from workers.contract.problems import DocumentsInvalid


class RunOptionsSerializer(serializers.ModelSerializer[Execution]):
    """Options of the run. An option that is left out is the task's, or the default."""

    class Meta:
        model = Execution
        fields = Execution.option_names()
        extra_kwargs: ClassVar[dict[str, Any]] = {name: {"required": False} for name in fields}


class ChangesSerializer(KnownKeysOnly):
    """Documents, each complete, and the options of the run."""

    name = serializers.CharField(max_length=100, required=False, allow_blank=True)

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
    """A submission: a registered task, or the documents themselves."""

    task = NameOrId(queryset=Task.objects.select_related("cluster", "spu", "heu"), required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [layer for layer in layers() if layer in attrs]
        if "task" in attrs and given:
            raise ValidationError(
                {"task": [f"give either a task or documents, not both; leave out {', '.join(given)}"]}
            )
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
        task: Task | None = self.validated_data.get("task")
        try:
            return task.documents() if task else super().documents()
        except DocumentsInvalid as error:
            raise invalid(error) from None

    def save(self, **kwargs: Any) -> Execution:
        given = self.validated_data
        task: Task | None = given.get("task")
        options = (task.options() if task else {}) | self.options()
        try:
            return Execution.objects.submit(
                self.documents(),
                task=task,
                name=given.get("name", ""),
                options=options,
                within=Access.of(self.context["request"]).parties,
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
