"""Who is calling the API: a token, or a user name and password to get one."""

from __future__ import annotations

import binascii
from typing import Any

import knox.auth
from django.utils import timezone
from knox.crypto import hash_token
from knox.models import AuthToken
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled

from controlplane.sign_in import seconds_to_wait


def valid_token(**which: Any) -> AuthToken | None:
    """Return a token with its user and terms, by one query; None if there is none, or it has expired."""
    found = AuthToken.objects.filter(**which).select_related("user", "terms").first()
    is_over = found is not None and found.expiry is not None and found.expiry <= timezone.now()
    return None if is_over else found


class TokenAuthentication(knox.auth.TokenAuthentication):
    """knox's token authentication, which finds a token by one query and notes its use."""

    def authenticate_credentials(self, token: bytes) -> Any:
        try:
            digest = hash_token(token.decode("ascii"))
        except (UnicodeDecodeError, binascii.Error, ValueError):
            raise AuthenticationFailed("Invalid token.") from None
        found = valid_token(digest=digest)
        if found is None:
            raise AuthenticationFailed("Invalid token.")
        who = self.validate_user(found)
        if terms := getattr(found, "terms", None):
            terms.note_use()
        return who


class PasswordAuthentication(BasicAuthentication):
    """HTTP basic authentication, for the login endpoint only. Refuses NUL, which not every database accepts."""

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> Any:
        if "\x00" in userid or "\x00" in password:
            raise AuthenticationFailed("Invalid username/password.")
        try:
            return super().authenticate_credentials(userid, password, request)
        except AuthenticationFailed:
            if wait := seconds_to_wait(request):
                raise Throttled(wait, "There were too many tries with a wrong name or password.") from None
            raise
