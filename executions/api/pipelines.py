"""The REST API of pipeline runs, and of the recent runs of schedules."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from controlplane.access import NOT_COVERED
from controlplane.api.base import Scoped
from controlplane.api.errors import Conflict
from controlplane.api.fields import KnownKeysOnly, NameOrId
from controlplane.api.pagination import BY_SUBMISSION, NewestFirst, Pagination
from controlplane.api.permissions import ChangePermission, StopPermission
from controlplane.api.pipelines import ScheduleSerializer, ScheduleViewSet, StepSerializer
from controlplane.api.shared import in_full_or_brief
from controlplane.models import Pipeline
from executions.api.executions import ProblemSerializer
from executions.api.filters import PipelineRunFilter
from executions.api.preflights import RunPermission
from executions.api.submissions import check_room, invalid
from executions.models import PipelineChange, PipelineRun, Tick
from executions.models.pipeline_run import NotPossible
from executions.permissions import CANCEL, RUN, VIEW
from executions.states import BLOCKED, WAITING, Status
from workers.contract.problems import DocumentsInvalid, closest


class CancelPermission(StopPermission):
    """Who may cancel executions may cancel pipeline runs."""

    perms_map = RunPermission.perms_map | {"POST": [CANCEL]}


class NodeSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    task = serializers.CharField(source="node.task_name")
    state = serializers.ChoiceField(
        choices=[WAITING, BLOCKED, *Status.values],
        help_text="State of its execution. WAITING: it gets one once the nodes that it waits for have succeeded; "
        "BLOCKED: one of them failed.",
    )
    why = serializers.CharField(help_text="Reason why it waits or failed.")
    waits_for = serializers.DictField(
        child=serializers.CharField(),
        source="node.waits_for",
        help_text="Maps each node that it waits for to the reason.",
    )
    execution = serializers.UUIDField(source="node.execution_id", allow_null=True)
    execution_url = serializers.SerializerMethodField()
    earlier = serializers.SerializerMethodField(help_text="Its executions before the latest retry, oldest first.")

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_execution_url(self, found: Any) -> str | None:
        execution = found.node.execution_id
        return reverse("execution-detail", args=[execution], request=self.context.get("request")) if execution else None

    @extend_schema_field(serializers.ListField(child=serializers.UUIDField()))
    def get_earlier(self, found: Any) -> list[Any]:
        return found.earlier()


class PipelineChangeSerializer(serializers.ModelSerializer[PipelineChange]):
    by = serializers.SlugRelatedField[Any]("username", read_only=True)

    class Meta:
        model = PipelineChange
        fields = ["at", "from_status", "to_status", "why", "by"]


class PipelineRunRowSerializer(serializers.ModelSerializer[PipelineRun]):
    """A run of a pipeline as a list shows it."""

    url = serializers.HyperlinkedIdentityField(view_name="pipelinerun-detail")
    pipeline = serializers.SlugRelatedField[Any]("name", read_only=True)
    submitted_by = serializers.SlugRelatedField[Any]("username", read_only=True)
    seconds = serializers.FloatField(allow_null=True, help_text="Seconds from submission to the end.")

    class Meta:
        model = PipelineRun
        fields = ["id", "url", "name", "pipeline", "status", "submitted_by", "created_at", "ended_at", "seconds"]


class PipelineRunSerializer(PipelineRunRowSerializer):
    nodes = NodeSerializer(source="node_states", many=True, help_text="Nodes in the order in which they run.")
    changes = PipelineChangeSerializer(many=True, help_text="Every change of state, oldest first.")
    cancel_url = serializers.HyperlinkedIdentityField(view_name="pipelinerun-cancel")
    retry_url = serializers.HyperlinkedIdentityField(view_name="pipelinerun-retry")
    admin_url = serializers.SerializerMethodField()

    class Meta(PipelineRunRowSerializer.Meta):
        fields = [*PipelineRunRowSerializer.Meta.fields, "nodes", "changes", "cancel_url", "retry_url", "admin_url"]

    @extend_schema_field(serializers.URLField())
    def get_admin_url(self, run: PipelineRun) -> str:
        return reverse("admin:executions_pipelinerun_change", args=[run.pk], request=self.context.get("request"))


class BriefPipelineRunSerializer(serializers.ModelSerializer[PipelineRun]):
    """All that is told to who may run or cancel pipelines, and may not view executions."""

    url = serializers.HyperlinkedIdentityField(view_name="pipelinerun-detail")

    class Meta:
        model = PipelineRun
        fields = ["id", "url", "status"]


ANSWER = in_full_or_brief("PipelineRunAnswer", PipelineRunSerializer, BriefPipelineRunSerializer)


class PipelineSubmissionSerializer(KnownKeysOnly):
    pipeline = NameOrId(queryset=Pipeline.objects.all())


class PipelineDryRunSerializer(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    problems = ProblemSerializer(many=True)
    steps = StepSerializer(many=True)


class RetrySerializer(KnownKeysOnly):
    nodes = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        allow_empty=False,
        help_text="Names of nodes that failed or were cancelled; all of them if left out.",
    )

    def validate_nodes(self, names: list[str]) -> list[str]:
        known = list(self.context["run"].nodes.values_list("name", flat=True))
        told = known if self.context["may_view"] else []
        if wrong := {
            index: [f"there is no node of this name; {closest(name, told)}"]
            for index, name in enumerate(names)
            if name not in known
        }:
            raise serializers.ValidationError(wrong)  # type: ignore[arg-type]
        return names


class PipelineRunViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Scoped):
    queryset = PipelineRun.objects.select_related("pipeline", "submitted_by", "party_set")
    serializer_class = PipelineRunSerializer
    filterset_class = PipelineRunFilter
    pagination_class = NewestFirst
    orderings = BY_SUBMISSION
    permission_classes = [RunPermission]

    def get_queryset(self) -> QuerySet[PipelineRun]:
        rows = super().get_queryset()
        return rows.prefetch_related("changes__by") if self.action == "retrieve" else rows

    def get_serializer_class(self) -> type[Any]:
        return PipelineRunRowSerializer if self.action == "list" else PipelineRunSerializer

    def _detail(self, run: PipelineRun) -> dict[str, Any]:
        if not self.access.may(VIEW):
            return dict(BriefPipelineRunSerializer(run, context=self.get_serializer_context()).data)
        fresh = self.queryset.prefetch_related("changes__by").get(pk=run.pk)
        return dict(PipelineRunSerializer(fresh, context=self.get_serializer_context()).data)

    def _pipeline(self, request: Request) -> Pipeline:
        submission = PipelineSubmissionSerializer(data=request.data, context=self.get_serializer_context())
        submission.is_valid(raise_exception=True)
        pipeline: Pipeline = submission.validated_data["pipeline"]
        if not self.access.covers(pipeline):
            raise PermissionDenied(NOT_COVERED)
        pipeline.within = self.access.parties
        return pipeline

    @extend_schema(
        summary="Run a pipeline",
        request=PipelineSubmissionSerializer,
        responses={200: PipelineDryRunSerializer, 201: ANSWER},
    )
    def create(self, request: Request) -> Response:
        """Run a pipeline. The whole pipeline is checked before anything starts. With `?dry_run=true`, return what was
        found instead (status 200)."""
        if self.is_dry_run:
            return self._dry_run(request)
        check_room()
        try:
            run = PipelineRun.objects.submit(self._pipeline(request), by=request.user)
        except DocumentsInvalid as error:
            raise invalid(error) from None
        detail = self._detail(run)
        return Response(detail, status.HTTP_201_CREATED, headers={"Location": str(detail["url"])})

    @extend_schema(summary="Check a pipeline", request=PipelineSubmissionSerializer, responses=PipelineDryRunSerializer)
    @action(methods=["post"], detail=False, url_path="dry-run")
    def dry_run(self, request: Request) -> Response:
        """Return whether the pipeline could run now: every problem, or its steps. Nothing is started."""
        return self._dry_run(request)

    def _dry_run(self, request: Request) -> Response:
        try:
            steps = self._pipeline(request).steps()
        except DocumentsInvalid as error:
            return Response({"valid": False, "problems": [p.as_dict() for p in error.problems], "steps": []})
        return Response({"valid": True, "problems": [], "steps": StepSerializer(steps, many=True).data})

    @extend_schema(summary="Retry a pipeline run", request=RetrySerializer, responses={202: ANSWER})
    @action(methods=["post"], detail=True)
    def retry(self, request: Request, pk: str) -> Response:
        """Run again the nodes that failed or were cancelled, and continue from there. Nodes that succeeded do not run
        again. 409: there is nothing to retry."""
        run = self.get_object()
        asked = RetrySerializer(data=request.data, context={"run": run, "may_view": self.access.may(VIEW)})
        asked.is_valid(raise_exception=True)
        try:
            run.retry(asked.validated_data.get("nodes", ()), by=request.user)
        except NotPossible as error:
            raise Conflict(str(error)) from None
        return Response(self._detail(run), status.HTTP_202_ACCEPTED)

    @extend_schema(summary="Cancel a pipeline run", request=None, responses={202: ANSWER})
    @action(methods=["post"], detail=True, permission_classes=[CancelPermission])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel the run with all its executions. You may repeat the call. 202: it stops within moments, or was
        cancelled before. 409: it had already ended."""
        run = self.get_object()
        try:
            run.cancel(by=request.user)
        except NotPossible as error:
            raise Conflict(str(error)) from None
        return Response(self._detail(run), status.HTTP_202_ACCEPTED)


class TickSerializer(serializers.ModelSerializer[Tick]):
    class Meta:
        model = Tick
        fields = ["due_at", "at", "execution", "pipeline_run", "skipped"]


class NewestDue(Pagination):
    ordering = "-due_at"


class RunningScheduleViewSet(ScheduleViewSet):
    """Schedules with their recent runs. Whoever adds, changes or confirms one needs the right to run things, too. It is
    here because ``controlplane`` does not import ``executions``."""

    paged = frozenset({"list", "ticks"})

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if request.method in ("POST", "PUT", "PATCH") and not self.access.may(RUN):
            self.permission_denied(request, message="A schedule runs in your name, and you may not run anything.")

    @extend_schema(summary="Confirm a schedule", request=None, responses=ScheduleSerializer)
    @action(methods=["post"], detail=True, permission_classes=[ChangePermission])
    def confirm(self, request: Request, pk: str) -> Response:
        """Have the schedule run in your name from now on, with all that it runs as that is now."""
        schedule = self.get_object()
        schedule.confirm(by=request.user)
        return Response(self.get_serializer(schedule).data)

    @extend_schema(summary="List recent times of a schedule", responses=TickSerializer(many=True))
    @action(detail=True, pagination_class=NewestDue, filter_backends=[])
    def ticks(self, request: Request, pk: str) -> Response:
        """Return the times at which the schedule was due, newest first, each with what was started, or why nothing
        was."""
        page: Any = self.paginate_queryset(self.get_object().ticks.all())
        return self.get_paginated_response(TickSerializer(page, many=True).data)
