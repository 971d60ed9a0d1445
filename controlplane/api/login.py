"""Login and logout of the API, with tokens, and their description in the schema."""

from __future__ import annotations

from typing import Any

from drf_spectacular.authentication import BasicScheme
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from drf_spectacular.utils import extend_schema, inline_serializer
from knox import views as knox_views
from rest_framework import serializers

from controlplane.api.authentication import PasswordAuthentication, TokenAuthentication


class TokenScheme(KnoxTokenScheme):
    target_class = "controlplane.api.authentication.TokenAuthentication"


class PasswordScheme(BasicScheme):
    target_class = "controlplane.api.authentication.PasswordAuthentication"


class LoginView(knox_views.LoginView):
    """Returns a token for a user name and a password (HTTP basic)."""

    authentication_classes = [PasswordAuthentication]

    @extend_schema(
        request=None,
        responses=inline_serializer("Token", {"token": serializers.CharField(), "expiry": serializers.DateTimeField()}),
    )
    def post(self, request: Any, format: Any = None) -> Any:
        return super().post(request, format)


class LogoutView(knox_views.LogoutView):
    """Ends the token that the request carries."""

    authentication_classes = [TokenAuthentication]

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Any, format: Any = None) -> Any:
        return super().post(request, format)
