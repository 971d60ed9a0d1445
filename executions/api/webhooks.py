"""The REST API of webhooks: where changes of executions are posted, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.access import Access
from controlplane.api.base import save_or_conflict
from controlplane.api.errors import Conflict
from controlplane.api.fields import KnownKeysOnly
from controlplane.api.pagination import Pagination
from controlplane.api.query import whole_number
from controlplane.api.versions import TaggedByVersion, tagged
from controlplane.api.writes import Writes
from controlplane.people.webhook import problem_of
from executions.api.submissions import LabelsField
from executions.coordinator.posting import new_keys
from executions.coordinator.webhooks import (
    check_room,
    make_key,
    may_have_webhooks,
    post_again,
    prepare_test,
    problem_of_name,
    with_version,
)
from executions.models import PostStatus, Signature, Webhook, WebhookDelivery
from executions.models.webhook import EVENT_TYPES, NotPossible


@contextmanager
def told_as_conflict() -> Iterator[None]:
    """Answer 409 for what the state does not allow."""
    try:
        yield
    except NotPossible as error:
        raise Conflict(str(error)) from None


class WebhookPermission(BasePermission):
    """Asks who may have webhooks, and who may change them."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user.is_authenticated:
            return False
        return may_have_webhooks(Access.of(request), changing=request.method not in SAFE_METHODS)


class WebhookSerializer(KnownKeysOnly, serializers.ModelSerializer[Webhook]):
    url = serializers.CharField(max_length=500, help_text="Where events are posted, such as https://hooks.example/abc.")
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=EVENT_TYPES), required=False, help_text="Types of events; all if empty."
    )
    labels = LabelsField(
        child=serializers.CharField(max_length=100, allow_blank=True),
        required=False,
        help_text="Only executions with all of these labels.",
    )
    deliveries_url = serializers.HyperlinkedIdentityField(view_name="webhook-deliveries")

    class Meta:
        model = Webhook
        fields: ClassVar[list[str]] = [
            "id", "name", "url", "events", "party", "labels", "signature", "public_key", "enabled", "disabled_because",
            "version", "created_at", "deliveries_url",
        ]  # fmt: skip
        read_only_fields = ("public_key", "disabled_because", "version", "created_at")

    def validate_url(self, url: str) -> str:
        if why := problem_of(url):
            raise ValidationError(why)
        return url

    def validate_signature(self, signature: str) -> str:
        if self.instance is not None and signature != self.instance.signature:
            raise ValidationError("cannot be changed; add another webhook, and remove this one")
        return signature

    def validate_name(self, name: str) -> str:
        if why := problem_of_name(self.context["request"].user, name, but=self.instance):
            raise ValidationError(why)
        return name


class NewWebhookSerializer(WebhookSerializer):
    """A webhook with the key of its signatures, which is shown this once."""

    secret = serializers.CharField(
        read_only=True,
        source="shown_key",
        help_text="The key with which signatures are checked. It is not shown again.",
    )

    class Meta(WebhookSerializer.Meta):
        fields: ClassVar[list[str]] = [*WebhookSerializer.Meta.fields, "secret"]


class TrySerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    status = serializers.IntegerField(allow_null=True, help_text="Status of the answer; null if there was none.")
    error = serializers.CharField(help_text="What went wrong; empty if nothing did.")
    seconds = serializers.FloatField()


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    tries = TrySerializer(many=True, help_text="The latest tries, oldest first.")
    event = serializers.SerializerMethodField(help_text="What is posted.")
    due_at = serializers.DateTimeField(help_text="When it is tried next, if it is still to be posted.")

    class Meta:
        model = WebhookDelivery
        fields: ClassVar[list[str]] = [
            "id", "message", "execution", "event_type", "status", "created_at", "due_at", "ended_at", "number_of_tries",
            "tries", "event",
        ]  # fmt: skip

    @extend_schema_field(serializers.DictField())
    def get_event(self, delivery: WebhookDelivery) -> Any:
        return json.loads(delivery.body)


class DeliveryQuery(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=PostStatus.choices, required=False)


class WebhookViewSet(TaggedByVersion, Writes, viewsets.ModelViewSet[Webhook]):
    """Your webhooks."""

    queryset = Webhook.objects.all()
    serializer_class = WebhookSerializer
    permission_classes = (WebhookPermission,)
    filterset_fields = ("name", "enabled")
    queries: ClassVar[dict[str, type[serializers.Serializer[Any]]]] = {"deliveries": DeliveryQuery}
    paged = frozenset({"list", "deliveries"})

    def get_queryset(self) -> QuerySet[Webhook]:
        rows: QuerySet[Webhook] = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):  # the schema is made without a caller
            return rows
        return rows.filter(owner=self.request.user.pk)

    @extend_schema(summary="Add a webhook", responses={201: NewWebhookSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Add a webhook. The answer has the key with which its signatures are checked, which is not shown again."""
        with told_as_conflict():
            check_room(request.user)
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        limits = getattr(getattr(request.auth, "terms", None), "parties", None)
        kept, shown, public = new_keys(given.validated_data.get("signature", Signature.HMAC))
        save_or_conflict(given, owner=request.user, secret=kept, public_key=public, limited_to=limits)
        return self._with_key(given.instance, shown, status.HTTP_201_CREATED)

    def _with_key(self, hook: Any, shown: str, code: int) -> Response:
        hook.shown_key = shown
        data = NewWebhookSerializer(hook, context=self.get_serializer_context()).data
        headers = {"Location": self.reverse_action("detail", [hook.pk])} if code == status.HTTP_201_CREATED else None
        return tagged(Response(data, code, headers=headers), hook.version)

    def perform_update(self, serializer: serializers.BaseSerializer[Webhook]) -> None:
        serializer.save(**with_version(serializer.validated_data))
        serializer.instance.refresh_from_db()  # type: ignore[union-attr]

    @extend_schema(summary="Make a new key", request=None, responses=NewWebhookSerializer)
    @action(methods=["post"], detail=True, url_path="rotate-secret")
    def rotate_secret(self, request: Request, pk: str) -> Response:
        """Make a new key, and return it. For a day the former one signs, too."""
        hook = self.get_object()
        with told_as_conflict():
            shown = make_key(hook)
        return self._with_key(hook, shown, status.HTTP_200_OK)

    @extend_schema(summary="Post a test event", request=None, responses={202: DeliverySerializer})
    @action(methods=["post"], detail=True)
    def test(self, request: Request, pk: str) -> Response:
        """Post an event that only tries the webhook. The log of its deliveries says what came of it."""
        hook = self.get_object()
        with told_as_conflict():
            delivery = prepare_test(hook)
        return Response(DeliverySerializer(delivery).data, status.HTTP_202_ACCEPTED)

    @extend_schema(summary="List deliveries", parameters=[DeliveryQuery], responses=DeliverySerializer(many=True))
    @action(detail=True, pagination_class=Pagination, filter_backends=[])
    def deliveries(self, request: Request, pk: str) -> Response:
        """Return what was posted, or is to be, newest first."""
        rows: Any = self.get_object().deliveries.filter(**self.asked)
        page: Any = self.paginate_queryset(rows)
        return self.get_paginated_response(DeliverySerializer(page, many=True).data)

    @extend_schema(
        parameters=[OpenApiParameter("delivery", OpenApiTypes.INT, OpenApiParameter.PATH)],
        summary="Post an event again",
        request=None,
        responses={202: DeliverySerializer},
    )
    @action(methods=["post"], detail=True, url_path=r"deliveries/(?P<delivery>[^/.]+)/redeliver")
    def redeliver(self, request: Request, pk: str, delivery: str) -> Response:
        """Post an event again that was sent or given up, with the same id."""
        key, rows = whole_number(delivery, 18), self.get_object().deliveries
        found = None if key is None else rows.filter(pk=key).first()
        if found is None:
            raise NotFound
        with told_as_conflict():
            post_again(found)
        return Response(DeliverySerializer(found).data, status.HTTP_202_ACCEPTED)
