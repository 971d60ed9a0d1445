"""Who is calling the API: a knox token, or a user name and password to get one."""

from __future__ import annotations

from typing import Any

import knox.auth
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import AuthenticationFailed


class TokenAuthentication(knox.auth.TokenAuthentication):
    """knox's token authentication, without its server error for a header that is not UTF-8."""

    def authenticate_credentials(self, token: bytes) -> Any:
        try:
            text = token.decode("ascii")
        except UnicodeDecodeError:
            raise AuthenticationFailed("Invalid token.") from None
        if "\x00" in text:
            raise AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(token)


class PasswordAuthentication(BasicAuthentication):
    """HTTP basic authentication, for the login endpoint only. Refuses NUL, which not every database accepts."""

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> Any:
        if "\x00" in userid or "\x00" in password:
            raise AuthenticationFailed("Invalid username/password.")
        return super().authenticate_credentials(userid, password, request)
