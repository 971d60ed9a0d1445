"""Codes of authenticator apps (TOTP, RFC 6238, by django-otp), and recovery codes for who has lost the app."""

from __future__ import annotations

import secrets
import time
from base64 import b32decode, b32encode
from math import ceil
from typing import Any
from urllib.parse import quote, urlencode

import segno
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django_otp.oath import TOTP

from controlplane.audit.record import record, record_refusal
from controlplane.audit.signals import name_of
from controlplane.documents.encryption import decrypted, encrypted
from controlplane.environment import environment
from controlplane.models import RecoveryCode, SecondFactor, SignInTries
from controlplane.sign_in import AS_ONE_USER, FROM_ONE_ADDRESS, address_of, network_of

ISSUER = "SecretFlow control plane"
#: Said to services whose user has to set up a second factor first.
NEEDED = "This user has to set up a second factor first: sign in to the console, which asks for it."
#: Steps of 30 s by which an app's clock may differ.
TOLERANCE = 1
RECOVERY_CODES = 10
#: Most wrong codes of one user within ``controlplane.models.sign_in.WINDOW``, from all addresses: whoever gets as far
#: as to be asked for a code knows the password.
OF_ONE_USER = 20


class TooManyTries(Exception):
    """There were too many wrong codes."""

    def __init__(self, seconds: float) -> None:
        super().__init__("There were too many tries with a wrong code.")
        self.seconds = ceil(seconds)


def factor_of(user: Any) -> SecondFactor | None:
    """Return the second factor of a user; None if there is none, or if it was never confirmed."""
    found: SecondFactor | None = getattr(user, "second_factor", None)
    return found if found is not None and found.confirmed_at else None


def is_required(user: Any) -> bool:
    """Return whether a user has to have a second factor: where the settings ask for it, who may change something."""
    if not environment.require_second_factor:
        return False
    held = (name.partition(".")[2] for name in user.get_all_permissions())
    return bool(user.is_superuser or any(not name.startswith("view_") for name in held))


def begin(user: Any) -> SecondFactor:
    """Return the secret that a user is about to put into an app; makes it if there is none. It does not count yet."""
    fresh = encrypted(b32encode(secrets.token_bytes(20)).decode())
    return SecondFactor.objects.get_or_create(user=user, defaults={"secret": fresh})[0]


def secret_of(factor: SecondFactor) -> str:
    """Return the secret as an app takes it; empty if it was encrypted with a key that is gone."""
    return decrypted(factor.secret) or ""


def address_for_apps(factor: SecondFactor) -> str:
    """Return the secret as a QR code has it."""
    query = urlencode({"secret": secret_of(factor), "issuer": ISSUER}, quote_via=quote)
    return f"otpauth://totp/{quote(f'{ISSUER}:{factor.user.get_username()}')}?{query}"


def picture_of(factor: SecondFactor) -> str:
    """Return the QR code as the address of a picture, which the page itself has in it."""
    return str(segno.make(address_for_apps(factor)).svg_data_uri(scale=4, border=4, light="#fff", dark="#000"))


@transaction.atomic
def confirm(factor: SecondFactor, code: str) -> list[str]:
    """Have the factor count from now on, if the code is right. Returns the recovery codes; none if it was wrong."""
    if not _takes(factor, code):
        return []
    SecondFactor.objects.filter(pk=factor.pk).update(confirmed_at=timezone.now())
    record("set up second factor", name_of(factor.user))
    return make_recovery_codes(factor.user)


@transaction.atomic
def make_recovery_codes(user: Any) -> list[str]:
    """Return new recovery codes; those before them end."""
    made = [b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.filter(user=user).delete()
    RecoveryCode.objects.bulk_create(RecoveryCode(user=user, digest=_digest(code)) for code in made)
    record("make recovery codes", name_of(user))
    return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in made]


@transaction.atomic
def remove(user: Any, action: str = "remove second factor") -> None:
    """End the second factor of a user, with the recovery codes."""
    RecoveryCode.objects.filter(user=user).delete()
    SecondFactor.objects.filter(user=user).delete()
    record(action, name_of(user))


def try_code(request: Any, user: Any, code: str) -> bool:
    """Return whether a code is right, of the app or for recovery; it is used up then. Raises TooManyTries, before it
    looks at the code."""
    address = network_of(address_of(request))
    by_both, by_user = f"{address} {user.get_username()} code", f"code of {user.pk}"
    wait = (
        SignInTries.count(by_both, AS_ONE_USER)
        or SignInTries.count(by_user, OF_ONE_USER)
        or SignInTries.count(address, FROM_ONE_ADDRESS)
    )
    if wait:
        raise TooManyTries(wait)
    if not _is_right(user, code):
        record_refusal(f"second step as {user.get_username()}", details="wrong code")
        return False
    SignInTries.forget(by_both)
    SignInTries.uncount(by_user)
    SignInTries.uncount(address)
    return True


def _is_right(user: Any, code: str) -> bool:
    factor = factor_of(user)
    if factor is None:
        return False
    if _takes(factor, code):
        return True
    digest = _digest("".join(code.lower().split()).replace("-", ""))
    if RecoveryCode.objects.filter(user=user, digest=digest).delete()[0]:
        record("use recovery code", name_of(user), by=user)
        return True
    return False


def _takes(factor: SecondFactor, code: str) -> bool:
    """Return whether a code is one of the app's, and notes that it was used: of two who send it at once, one is let
    through."""
    digits, secret = "".join(code.split()), secret_of(factor)
    if not (len(digits) == 6 and digits.isascii() and digits.isdecimal() and secret):
        return False
    totp = TOTP(b32decode(secret))
    totp.time = time.time()
    if not totp.verify(int(digits), TOLERANCE, factor.last_step + 1):
        return False
    unused = SecondFactor.objects.filter(pk=factor.pk, secret=factor.secret, last_step__lt=totp.t())
    return bool(unused.update(last_step=totp.t()))


def _digest(code: str) -> str:
    return salted_hmac("controlplane.people.second_factor", code, settings.SECRET_KEY, algorithm="sha256").hexdigest()
