"""The REST API of pre-flight checks: request them, and read the hosts' answers."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.base import Scoped
from controlplane.api.permissions import ModelPermissions
from controlplane.api.shared import in_full_or_brief
from controlplane.models.catalogue import DatabaseCatalogue
from executions.api.submissions import SubmissionSerializer, invalid
from executions.models import PartyCheck, Preflight
from executions.permissions import RUN, VIEW
from workers.contract.problems import DocumentsInvalid
from workers.contract.validation import validate


class CheckSerializer(serializers.Serializer[Any]):
    check = serializers.CharField(
        help_text="Name of the check: ports, peers, dataset, data, memory or disk, for instance."
    )
    error = serializers.CharField(help_text="Says what is wrong and what would be right; empty if the check passed.")
    error_type = serializers.CharField()


class PartyCheckSerializer(serializers.ModelSerializer[PartyCheck]):
    party = serializers.CharField(source="party.name")
    checks = CheckSerializer(many=True, source="results")

    class Meta:
        model = PartyCheck
        fields = ["party", "answered_at", "worker", "ports", "checks", "facts"]


class CheckProblemSerializer(CheckSerializer):
    party = serializers.CharField()


class PreflightSerializer(serializers.ModelSerializer[Preflight]):
    url = serializers.HyperlinkedIdentityField(view_name="preflight-detail")
    state = serializers.ChoiceField(choices=["checking", "passed", "failed"])
    problems = CheckProblemSerializer(many=True)
    parties = PartyCheckSerializer(many=True)

    class Meta:
        model = Preflight
        fields = ["id", "url", "state", "is_ahead", "execution", "name", "requested_at", "problems", "parties"]


class BriefPreflightSerializer(serializers.ModelSerializer[Preflight]):
    """All that is told to who may ask for checks, and may not view executions."""

    url = serializers.HyperlinkedIdentityField(view_name="preflight-detail")

    class Meta:
        model = Preflight
        fields = ["id", "url", "requested_at"]


ANSWER = in_full_or_brief("PreflightAnswer", PreflightSerializer, BriefPreflightSerializer)


class RunPermission(ModelPermissions):
    """Lets users request checks who may run executions, and read them who may view executions."""

    perms_map = {method: [RUN if method == "POST" else VIEW] for method in ModelPermissions.perms_map}


class PreflightViewSet(mixins.RetrieveModelMixin, Scoped):
    queryset = Preflight.objects.all()
    serializer_class = PreflightSerializer
    permission_classes = [RunPermission]

    @extend_schema(summary="Ask for checks", request=SubmissionSerializer, responses={201: ANSWER})
    def create(self, request: Request) -> Response:
        """Have every party's host check a task, or documents, without running them. Poll the url in the answer for the
        results. Only facts come back, no rows."""
        submission = SubmissionSerializer(data=request.data, context=self.get_serializer_context())
        submission.is_valid(raise_exception=True)
        task = submission.validated_data.get("task")
        documents = submission.documents()
        try:
            validate(documents, DatabaseCatalogue(self.access.parties))
            name = submission.validated_data.get("name") or (task.name if task else "")
            asked = Preflight.objects.ask(documents, name=name, by=request.user)
        except DocumentsInvalid as error:
            raise invalid(error) from None
        serializer = PreflightSerializer if self.access.may(VIEW) else BriefPreflightSerializer
        detail = serializer(asked, context=self.get_serializer_context()).data
        return Response(detail, status.HTTP_201_CREATED, headers={"Location": str(detail["url"])})
