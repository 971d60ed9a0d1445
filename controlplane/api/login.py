"""Login and logout of the API, with tokens, and their description in the schema."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.authentication import BasicScheme, SessionScheme
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from drf_spectacular.utils import extend_schema, inline_serializer
from knox import views as knox_views
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, Throttled, ValidationError

from controlplane.api.authentication import PasswordAuthentication, TokenAuthentication
from controlplane.api.errors import ErrorBody
from controlplane.api.fields import KnownKeysOnly, NameOrId
from controlplane.api.query import StrictQuery
from controlplane.models import Party, TokenTerms
from controlplane.models.token import MOST_DAYS, Scope
from controlplane.people.second_factor import NEEDED, TooManyTries, factor_of, is_required, try_code

#: For how long a token is valid if the request does not say, as for somebody who signs in for the day.
USUAL_LIFETIME = timedelta(hours=10)


class TokenScheme(KnoxTokenScheme):
    target_class = "controlplane.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        text = "`Token` and the token, such as `Token 5c0b...`. auth_login makes one."
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": text}


class PasswordScheme(BasicScheme):
    target_class = "controlplane.api.authentication.PasswordAuthentication"
    name = "password"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "basic", "description": "User name and password, for auth_login alone."}


class BrowserScheme(SessionScheme):
    target_class = "rest_framework.authentication.SessionAuthentication"
    name = "session"
    priority = 1

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        text = "The session of the console. A write needs its CSRF token, too, as `X-CSRFToken`."
        return super().get_security_definition(auto_schema) | {"description": text}


class WantedTokenSerializer(KnownKeysOnly):
    """What the new token may do: everything that its user may, if nothing is said."""

    name = serializers.CharField(max_length=100, default="login", help_text="What uses the token.")
    scopes = serializers.MultipleChoiceField(
        choices=Scope.choices,
        # A set would have another order in each process's description of the API
        default=sorted(Scope.values),  # type: ignore[arg-type]
        allow_empty=False,
        help_text="What it may do.",
    )
    parties = serializers.ListField(
        child=NameOrId(queryset=Party.objects.all(), needs_view=False),
        required=False,
        allow_empty=False,
        help_text="Parties that it is limited to, by name or id; all of the user's if left out.",
    )
    code = serializers.CharField(
        required=False, max_length=40, help_text="Code of the authenticator app, if the user has a second factor."
    )
    days = serializers.IntegerField(
        required=False, min_value=1, max_value=MOST_DAYS, help_text="Days until it expires; 10 hours if left out."
    )


class LoginView(StrictQuery, knox_views.LoginView):
    """Returns a token for a user name and a password (HTTP basic)."""

    authentication_classes = [PasswordAuthentication]
    metadata_class = None  # OPTIONS would tell the fields of a serializer that it has not

    @extend_schema(
        summary="Make a token",
        request=WantedTokenSerializer,
        responses={
            200: inline_serializer("Token", {"token": serializers.CharField(), "expiry": serializers.DateTimeField()}),
            403: ErrorBody,
            429: ErrorBody,
        },
    )
    def post(self, request: Any, format: Any = None) -> Any:
        """Return a token for a user name and a password (HTTP basic). The body may limit what the token can do."""
        return super().post(request, format)

    def create_token(self) -> Any:
        request: Any = self.request
        wanted = WantedTokenSerializer(data=request.data, context={"request": request})
        wanted.is_valid(raise_exception=True)
        given = wanted.validated_data
        self._check_code(given.get("code", ""))
        parties = frozenset(party.name for party in given["parties"]) if "parties" in given else None
        lifetime = timedelta(days=given["days"]) if "days" in given else USUAL_LIFETIME
        return TokenTerms.make_token(request.user, given["name"], given["scopes"], parties, lifetime)

    def _check_code(self, code: str) -> None:
        """Raise an error unless a second factor of the user takes the code, or there is none."""
        request: Any = self.request
        if factor_of(request.user) is None:
            if is_required(request.user):
                raise PermissionDenied(NEEDED)
            return
        if not code:
            raise ValidationError({"code": "This user has a second factor: send the code of the authenticator app."})
        try:
            is_right = try_code(request, request.user, code)
        except TooManyTries as error:
            raise Throttled(error.seconds, str(error)) from None
        if not is_right:
            raise ValidationError({"code": "This code is wrong, or was used already; send the app's next one."})


class LogoutView(StrictQuery, knox_views.LogoutView):
    """Ends the token that the request carries."""

    authentication_classes = [TokenAuthentication]
    metadata_class = None

    @extend_schema(summary="End a token", request=None, responses={204: None})
    def post(self, request: Any, format: Any = None) -> Any:
        """End the token that the request carries."""
        return super().post(request, format)
