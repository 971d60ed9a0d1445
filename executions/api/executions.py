"""The REST API of executions: submit, look at, cancel."""

from __future__ import annotations

from hashlib import md5
from types import MappingProxyType
from typing import Any

from django.db.models import Prefetch, QuerySet
from django.http import StreamingHttpResponse
from django.utils.http import parse_etags, quote_etag
from drf_spectacular.utils import extend_schema, extend_schema_field, inline_serializer
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from controlplane.api.base import Scoped
from controlplane.api.errors import Conflict
from controlplane.api.pagination import BY_SUBMISSION, ArrivalOrder, NewestFirst
from controlplane.api.permissions import StopPermission
from controlplane.api.shared import in_full_or_brief
from executions.api.bulk import BulkActions
from executions.api.filters import ExecutionFilter
from executions.api.logs import LogQuery, LogsAction
from executions.api.preflights import PreflightSerializer
from executions.api.results import ResultActions
from executions.api.submissions import ChangesSerializer, SubmissionSerializer, check_room, invalid
from executions.api.watching import EventStreamRenderer, streamed
from executions.dry_run import dry_run
from executions.models import Execution, ExecutionEvent, NotCancellable, PartyRun, StateChange
from executions.permissions import VIEW
from executions.watching.waiting import wait_until
from workers.contract.problems import DocumentsInvalid
from workers.contract.secrets import masked

ROW = [
    "id",
    "url",
    "name",
    "task",
    "task_type",
    "parties",
    "status",
    "stage",
    "progress",
    "attempt",
    "waiting_for",
    *Execution.option_names(),
    "labels",
    "deadline",
    "queued_at",
    "has_warnings",
    "error",
    "created_at",
    "dispatched_at",
    "started_at",
    "ended_at",
    "seconds",
]


class PartyRunSerializer(serializers.ModelSerializer[PartyRun]):
    party = serializers.CharField(source="party.name")

    class Meta:
        model = PartyRun
        fields = [
            "party",
            "attempt",
            "status",
            "stage",
            "progress",
            "devices",
            "worker",
            "error",
            "error_type",
            "caused_by_peer",
            "result",
            "dispatched_at",
            "started_at",
            "ended_at",
            "execution_seconds",
        ]


class StateChangeSerializer(serializers.ModelSerializer[StateChange]):
    by = serializers.SlugRelatedField[Any]("username", read_only=True)

    class Meta:
        model = StateChange
        fields = ["at", "from_status", "to_status", "why", "by"]


class EventSerializer(serializers.ModelSerializer[ExecutionEvent]):
    class Meta:
        model = ExecutionEvent
        fields = ["party", "attempt", "sequence", "status", "stage", "timestamp", "received_at", "worker", "data"]


class ExecutionRowSerializer(serializers.ModelSerializer[Execution]):
    """An execution as a list shows it."""

    url = serializers.HyperlinkedIdentityField(view_name="execution-detail")
    task = serializers.SlugRelatedField[Any]("name", read_only=True)
    parties = serializers.ListField(child=serializers.CharField())
    error = serializers.SerializerMethodField()
    labels = serializers.DictField(child=serializers.CharField(), help_text="Keys and values that lists filter by.")
    seconds = serializers.FloatField(allow_null=True, help_text="Seconds from submission to the end.")
    waiting_for = serializers.CharField(source="waiting_reason", read_only=True, help_text="Reason why it is waiting.")

    class Meta:
        model = Execution
        fields = ROW

    @extend_schema_field(
        inline_serializer(
            "ExecutionError",
            {name: serializers.CharField() for name in ("type", "party", "stage", "message")},
            allow_null=True,
        )
    )
    def get_error(self, execution: Execution) -> dict[str, str] | None:
        if not (execution.error or execution.error_type):
            return None
        return {
            "type": execution.error_type,
            "party": execution.error_party,
            "stage": execution.error_stage,
            "message": execution.error,
        }


class ExecutionSerializer(ExecutionRowSerializer):
    """All of an execution except its events."""

    runs = serializers.SerializerMethodField(help_text="Each party's run in the latest attempt.")
    changes = StateChangeSerializer(many=True, help_text="Every change of state, oldest first.")
    submitted_by = serializers.SlugRelatedField[Any]("username", read_only=True)
    events_url = serializers.HyperlinkedIdentityField(view_name="execution-events")
    result_url = serializers.HyperlinkedIdentityField(view_name="execution-result")
    logs_url = serializers.HyperlinkedIdentityField(view_name="execution-logs")
    cancel_url = serializers.HyperlinkedIdentityField(view_name="execution-cancel")
    documents = serializers.SerializerMethodField(help_text="Documents as submitted, by layer; secrets are masked.")
    pipeline_run = serializers.UUIDField(
        source="node.run_id", read_only=True, allow_null=True, help_text="The run of a pipeline that it belongs to."
    )
    node = serializers.CharField(
        source="node.name", read_only=True, allow_null=True, help_text="Name of its node in that pipeline."
    )
    preflight = serializers.SerializerMethodField(help_text="The latest checks by the parties' hosts, if any.")
    admin_url = serializers.SerializerMethodField()

    class Meta:
        model = Execution
        fields = [
            *ROW,
            "due_at",
            "submitted_by",
            "request_id",
            "pipeline_run",
            "node",
            "retries",
            "result",
            "preflight",
            "runs",
            "changes",
            "documents",
            "events_url",
            "result_url",
            "logs_url",
            "cancel_url",
            "admin_url",
        ]

    def get_documents(self, execution: Execution) -> dict[str, Any]:
        return masked(execution.documents)

    @extend_schema_field(PreflightSerializer(allow_null=True))
    def get_preflight(self, execution: Execution) -> dict[str, Any] | None:
        latest = execution.preflights.first()
        return dict(PreflightSerializer(latest, context=self.context).data) if latest else None

    @extend_schema_field(PartyRunSerializer(many=True))
    def get_runs(self, execution: Execution) -> list[Any]:
        latest = [run for run in execution.runs.all() if run.attempt == execution.attempt]
        return list(PartyRunSerializer(latest, many=True).data)

    @extend_schema_field(serializers.URLField())
    def get_admin_url(self, execution: Execution) -> str:
        return reverse("admin:executions_execution_change", args=[execution.pk], request=self.context.get("request"))


class BriefExecutionSerializer(serializers.ModelSerializer[Execution]):
    """All that is told to who may submit or cancel executions, and may not view them."""

    url = serializers.HyperlinkedIdentityField(view_name="execution-detail")

    class Meta:
        model = Execution
        fields = ["id", "url", "status"]


ANSWER = in_full_or_brief("ExecutionAnswer", ExecutionSerializer, BriefExecutionSerializer)


class ProblemSerializer(serializers.Serializer[Any]):
    path = serializers.CharField(help_text="Path of the field, such as spu_config.runtime_config.protocol.")
    wrong = serializers.CharField()
    right = serializers.CharField()


class PartyDryRunSerializer(serializers.Serializer[Any]):
    party = serializers.CharField()
    workers = serializers.IntegerField(help_text="Number of live workers.")
    ready = serializers.IntegerField(help_text="Number of live workers that could start at once.")
    busy = serializers.IntegerField(help_text="Number of runs that occupy a worker.")
    ports_free = serializers.IntegerField()
    queued = serializers.IntegerField(help_text="Number of executions that already wait for this party.")


class DryRunSerializer(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    verdict = serializers.CharField(help_text="What would happen, in one line.")
    problems = ProblemSerializer(many=True)
    waits_for = serializers.CharField(help_text="Reason why it would wait; empty if it would start at once.")
    parties = PartyDryRunSerializer(many=True)
    documents = serializers.DictField(
        help_text="Maps each party to the documents that it would receive; empty for who may not view executions."
    )


class EventQuery(serializers.Serializer[Any]):
    attempt = serializers.IntegerField(min_value=0, max_value=2**31 - 1, required=False)
    party = serializers.CharField(required=False)
    after_sequence = serializers.IntegerField(
        min_value=0,
        max_value=2**31 - 1,
        required=False,
        help_text="Only events with a higher number: each party counts its own in each attempt.",
    )


class ExecutionQuery(serializers.Serializer[Any]):
    wait = serializers.FloatField(
        min_value=0,
        max_value=60,
        required=False,
        help_text="Seconds to wait until it has ended; with If-None-Match, until it has changed.",
    )


class ExecutionViewSet(
    BulkActions, LogsAction, ResultActions, mixins.ListModelMixin, mixins.RetrieveModelMixin, Scoped
):
    queryset = Execution.objects.all()
    serializer_class = ExecutionSerializer
    filterset_class = ExecutionFilter
    pagination_class = NewestFirst
    queries = MappingProxyType({"retrieve": ExecutionQuery, "events": EventQuery, "logs": LogQuery})
    paged = frozenset({"list", "events", "logs"})
    orderings = BY_SUBMISSION

    def get_queryset(self) -> QuerySet[Execution]:
        rows = super().get_queryset().select_related("task")
        if self.action == "list":
            return rows.only(
                *{*ROW, "error_type", "error_party", "error_stage"} - {"url", "seconds", "task"}, "task__name"
            )
        if self.action == "retrieve":
            return _with_details(rows)
        if self.action in ("events", "logs"):
            return super().get_queryset().only("pk")
        return rows

    def get_serializer_class(self) -> type[Any]:
        return {"list": ExecutionRowSerializer, "create": SubmissionSerializer, "events": EventSerializer}.get(
            self.action, ExecutionSerializer
        )

    @extend_schema(parameters=[ExecutionQuery])
    def retrieve(self, request: Request, pk: str) -> Response:
        """Return an execution; with `wait`, once it has ended, or after so many seconds."""
        if wait := self.asked.get("wait"):
            execution = self.get_object()
            known = request.headers.get("If-None-Match")

            def is_over() -> bool:
                if known is None:
                    return not Execution.objects.filter(pk=execution.pk, ended_at=None).exists()
                shown = JSONRenderer().render(self.get_serializer(self.get_object()).data)
                return quote_etag(md5(shown, usedforsecurity=False).hexdigest()) not in parse_etags(known)

            wait_until(str(execution.pk), is_over, wait)
        return super().retrieve(request, pk)

    def _detail(self, execution: Execution) -> dict[str, Any]:
        if not self.access.may(VIEW):
            return dict(BriefExecutionSerializer(execution, context=self.get_serializer_context()).data)
        fresh = _with_details(Execution.objects.filter(pk=execution.pk)).get()
        return dict(ExecutionSerializer(fresh, context=self.get_serializer_context()).data)

    @extend_schema(
        summary="Submit an execution", request=SubmissionSerializer, responses={200: DryRunSerializer, 201: ANSWER}
    )
    def create(self, request: Request) -> Response:
        """Submit an execution. With `?dry_run=true`, return what would happen instead (status 200)."""
        if self.is_dry_run:
            return self._dry_run(request)
        check_room()
        submission = self.get_serializer(data=request.data)
        submission.is_valid(raise_exception=True)
        detail = self._detail(submission.save(by=request.user))
        return Response(detail, status.HTTP_201_CREATED, headers={"Location": str(detail["url"])})

    @extend_schema(summary="Check an execution", request=SubmissionSerializer, responses=DryRunSerializer)
    @action(methods=["post"], detail=False, url_path="dry-run")
    def dry_run(self, request: Request) -> Response:
        """Return what would happen if this were submitted now: every problem, or what each party would receive, and
        whether it would start at once. Nothing is submitted."""
        return self._dry_run(request)

    def _dry_run(self, request: Request) -> Response:
        submission = SubmissionSerializer(data=request.data, context=self.get_serializer_context())
        submission.is_valid(raise_exception=True)
        found = dry_run(submission.documents(), self.access.parties).as_dict()
        return Response(found if self.access.may(VIEW) else found | {"documents": {}})

    @extend_schema(summary="Retry an execution", request=ChangesSerializer, responses={201: ANSWER})
    @action(methods=["post"], detail=True)
    def retry(self, request: Request, pk: str) -> Response:
        """Submit the execution again, as a new one, with the changes in the body. 409: it has not ended yet."""
        check_room()
        execution = self.get_object()
        if not execution.has_ended:
            raise Conflict(f"The execution is {execution.status}; cancel it, or wait for its end, to run it again.")
        changes = ChangesSerializer(data=request.data, context=self.get_serializer_context())
        changes.is_valid(raise_exception=True)
        if changes.documents() and not self.access.may(VIEW):
            raise PermissionDenied("To run it with other documents takes the permission to view executions.")
        try:
            new = execution.submit_again(
                by=request.user,
                documents=changes.documents(),
                name=changes.validated_data.get("name"),
                options=changes.options(),
                labels=changes.validated_data.get("labels"),
                deadline=changes.validated_data.get("deadline"),
                within=self.access.parties,
            )
        except DocumentsInvalid as error:
            if not self.access.may(VIEW):  # the problems quote the documents
                raise Conflict("Its documents are not valid any more.") from None
            raise invalid(error) from None
        detail = self._detail(new)
        return Response(detail, status.HTTP_201_CREATED, headers={"Location": str(detail["url"])})

    @extend_schema(summary="Cancel an execution", request=None, responses={202: ANSWER})
    @action(methods=["post"], detail=True, permission_classes=[StopPermission])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel the execution. You may repeat the call. 202: it stops within moments, or was cancelled before. 409: it
        had already ended."""
        execution = self.get_object()
        try:
            execution.cancel(by=request.user)
        except NotCancellable as error:
            raise Conflict(str(error)) from None
        return Response(self._detail(execution), status.HTTP_202_ACCEPTED)

    @extend_schema(summary="List or stream events", parameters=[EventQuery], responses=EventSerializer(many=True))
    @action(
        detail=True,
        pagination_class=ArrivalOrder,
        filter_backends=[],
        renderer_classes=[JSONRenderer, EventStreamRenderer],
    )
    def events(self, request: Request, pk: str) -> Response | StreamingHttpResponse:
        """Return the events that its parties sent, in the order in which they arrived. With `Accept: text/event-stream`
        they come as they arrive, with the changes of its state."""
        execution = self.get_object()
        if request.accepted_renderer.format == EventStreamRenderer.format:
            return streamed(request, execution=execution.pk)
        wanted = {name.replace("after_sequence", "sequence__gt"): value for name, value in self.asked.items()}
        rows: Any = ExecutionEvent.objects.filter(execution_id=execution.pk, **wanted)
        page: Any = self.paginate_queryset(rows)
        return self.get_paginated_response(EventSerializer(page, many=True).data)


def _with_details(rows: QuerySet[Execution]) -> QuerySet[Execution]:
    return (
        rows.select_related("task", "submitted_by", "node")
        .defer("node__documents", "node__options")
        .prefetch_related(
            Prefetch("runs", PartyRun.objects.select_related("party").order_by("attempt", "pk")),
            Prefetch("changes", StateChange.objects.select_related("by").order_by("at", "pk")),
        )
    )
