"""A second factor: set up with an app, asked for at each sign-in, used once, limited, reset by a superuser."""

from __future__ import annotations

import re
import time
from base64 import b32decode, b64encode
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django_otp.oath import TOTP
from rest_framework.test import APIClient

from controlplane.environment import environment
from controlplane.models import AuditEntry, RecoveryCode, SecondFactor, SignInTries, TokenTerms
from controlplane.people import second_factor as factors
from controlplane.roles import ADMINISTRATOR, OPERATOR, VIEWER
from controlplane.sign_in import AS_ONE_USER
from tests.composed import admin_client, superuser, token_client
from tests.walked import Circle, in_role

pytestmark = pytest.mark.django_db
PAGE, LOGIN, STEP = "/admin/account/second-factor/", "/admin/login/", "/admin/second-step/"
PASSWORD = "seven blue lanterns"


class Clock:
    """The time that codes are made and looked at by."""

    now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def tick(self, seconds: float = 30) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(factors, "time", made)
    return made


@pytest.fixture
def ann(circle: Circle, settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    user = in_role("ann", OPERATOR, circle.names)
    user.set_password(PASSWORD)
    user.save()
    return user


def code_of(secret: str, clock: Clock) -> str:
    totp = TOTP(b32decode(secret))
    totp.time = clock.now
    return f"{totp.token():06}"


def set_up(client: Client, clock: Clock) -> tuple[str, list[str]]:
    """The secret and the recovery codes of a second factor that is set up through the pages."""
    page = client.post(PAGE, {"do": "begin"}, follow=True).content.decode()
    found = re.search(r"data-secret>([A-Z2-7 ]+)<", page)
    assert found
    assert "data:image/svg+xml" in page
    secret = found[1].replace(" ", "")
    shown = client.post(PAGE, {"do": "confirm", "code": code_of(secret, clock)})
    assert "no-store" in shown.headers["Cache-Control"]
    codes = re.findall(r"\b(?:[a-z2-7]{4}-){3}[a-z2-7]{4}\b", shown.content.decode())
    assert len(codes) == factors.RECOVERY_CODES
    clock.tick()
    return secret, codes


def password_step(client: Client | None = None) -> Client:
    client = client or Client(raise_request_exception=False)
    answer = client.post(f"{LOGIN}?next=/admin/controlplane/task/?q=a%26b", {"username": "ann", "password": PASSWORD})
    assert (answer.status_code, answer.headers["Location"][: len(STEP)]) == (302, STEP)
    client.step = answer.headers["Location"]  # type: ignore[attr-defined]
    return client


def is_in(client: Client) -> bool:
    return bool(client.get("/admin/account/").status_code == 200)


def test_it_is_set_up_and_then_asked_for(ann: User, clock: Clock) -> None:
    secret, _ = set_up(admin_client(ann), clock)
    client = password_step()
    assert not is_in(client), "the password alone let it in"
    assert client.get(STEP).status_code == 200
    answer = client.post(client.step, {"code": code_of(secret, clock)})  # type: ignore[attr-defined]
    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/controlplane/task/?q=a&b")
    assert is_in(client)
    stored = SecondFactor.objects.get()
    assert secret not in stored.secret, "it is stored in the clear"
    told = set(AuditEntry.objects.filter(subject="user ann").values_list("actor", "action"))
    assert {("ann", "set up second factor"), ("ann", "sign in")} <= told


def test_a_code_is_taken_once_and_by_nobody_else_s_clock(ann: User, clock: Clock) -> None:
    secret, _ = set_up(admin_client(ann), clock)
    code = code_of(secret, clock)
    assert password_step().post(STEP, {"code": f" {code[:3]} {code[3:]} "}).status_code == 302
    again = password_step().post(STEP, {"code": code})
    assert (again.status_code, "code" in again.context["form"].errors) == (200, True)
    clock.tick(300)
    assert password_step().post(STEP, {"code": code}).status_code == 200


def test_two_who_send_a_code_at_once_do_not_both_get_in(ann: User, clock: Clock) -> None:
    secret, _ = set_up(admin_client(ann), clock)
    first, second = SecondFactor.objects.get(), SecondFactor.objects.get()  # both read before either writes
    code = code_of(secret, clock)
    assert [factors._takes(factor, code) for factor in (first, second)] == [True, False]


@pytest.mark.parametrize("code", ["", "000000", "12345", "abcdef", "1" * 5000, "\0", "١٢٣٤٥٦", "-12345", "1_0000"])
def test_wrong_codes_are_refused_with_a_reason(ann: User, clock: Clock, code: str) -> None:
    set_up(admin_client(ann), clock)
    client = password_step()
    answer = client.post(STEP, {"code": code})
    assert (answer.status_code, list(answer.context["form"].errors)) == (200, ["code"])
    assert not is_in(client)


def test_wrong_codes_are_limited_and_the_password_does_not_reset_that(ann: User, clock: Clock) -> None:
    secret, _ = set_up(admin_client(ann), clock)
    for _ in range(AS_ONE_USER):
        assert password_step().post(STEP, {"code": "000000"}).status_code == 200
    refused = password_step().post(STEP, {"code": code_of(secret, clock)})
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)
    SignInTries.objects.all().delete()
    assert password_step().post(STEP, {"code": code_of(secret, clock)}).status_code == 302


def test_wrong_codes_are_limited_over_all_addresses(ann: User, clock: Clock) -> None:
    secret, _ = set_up(admin_client(ann), clock)
    client = password_step()
    for number in range(factors.OF_ONE_USER):
        assert client.post(STEP, {"code": "000000"}, REMOTE_ADDR=f"198.51.100.{number}").status_code == 200
    sent = {"code": code_of(secret, clock)}
    assert client.post(STEP, sent, REMOTE_ADDR="203.0.113.1").status_code == 429


def test_a_recovery_code_stands_in_once(ann: User, clock: Clock) -> None:
    _, codes = set_up(admin_client(ann), clock)
    assert not {code.replace("-", "") for code in codes} & set(RecoveryCode.objects.values_list("digest", flat=True))
    assert password_step().post(STEP, {"code": codes[0].upper()}).status_code == 302
    assert password_step().post(STEP, {"code": codes[0]}).status_code == 200
    assert password_step().post(STEP, {"code": codes[1].replace("-", "")}).status_code == 302
    assert RecoveryCode.objects.count() == factors.RECOVERY_CODES - 2


def test_the_second_step_ends_with_a_new_password_with_time_and_with_the_user(
    ann: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, _ = set_up(admin_client(ann), clock)
    client = password_step()
    later = time.time() + 601
    with monkeypatch.context() as patched:
        patched.setattr("controlplane.admin.sign_in_pages.time.time", lambda: later)
        assert client.post(STEP, {"code": code_of(secret, clock)}).headers["Location"] == LOGIN
    ann.set_password("another one, long")
    ann.save()
    assert client.post(STEP, {"code": code_of(secret, clock)}).headers["Location"] == LOGIN
    assert Client().get(STEP).headers["Location"] == LOGIN
    assert not is_in(client)


def test_it_is_turned_off_and_codes_are_made_with_a_code_alone(ann: User, clock: Clock) -> None:
    client = admin_client(ann)
    secret, codes = set_up(client, clock)
    assert client.post(PAGE, {"do": "remove", "code": "000000"}).status_code == 200
    assert client.post(PAGE, {"do": "remove"}).status_code == 200
    assert client.post(PAGE, {"do": "begin"}).status_code == 200
    assert SecondFactor.objects.exists()
    fresh = client.post(PAGE, {"do": "codes", "code": code_of(secret, clock)}).content.decode()
    assert codes[0] not in fresh
    clock.tick()
    assert client.post(PAGE, {"do": "remove", "code": codes[0]}).status_code == 200, "an old recovery code"
    assert client.post(PAGE, {"do": "remove", "code": code_of(secret, clock)}).status_code == 302
    assert not SecondFactor.objects.exists()
    assert not RecoveryCode.objects.exists()


def test_a_secret_that_was_never_confirmed_does_not_count(ann: User, clock: Clock) -> None:
    client = admin_client(ann)
    client.post(PAGE, {"do": "begin"})
    assert client.post(PAGE, {"do": "confirm", "code": "000000"}).context["form"].errors
    assert Client().post(LOGIN, {"username": "ann", "password": PASSWORD}).headers["Location"] == "/admin/"


def test_a_superuser_resets_it(ann: User, clock: Clock) -> None:
    set_up(admin_client(ann), clock)
    page = f"/admin/auth/user/{ann.pk}/reset-factor/"
    assert admin_client(in_role("ada", ADMINISTRATOR)).post(page).status_code == 403
    root = admin_client(superuser())
    assert root.get(page).status_code == 200
    assert SecondFactor.objects.exists()
    assert root.post(page).status_code == 302
    assert not SecondFactor.objects.exists()
    assert AuditEntry.objects.filter(action="reset second factor", actor="root").exists()
    assert Client().post(LOGIN, {"username": "ann", "password": PASSWORD}).headers["Location"] == "/admin/"


# The API


def login(body: Any = None) -> Any:
    basic = b64encode(f"ann:{PASSWORD}".encode()).decode()
    client = APIClient(raise_request_exception=False)
    return client.post("/api/v1/auth/login/", body, format="json", headers={"Authorization": f"Basic {basic}"})


def test_tokens_need_no_code_and_making_one_with_the_password_does(ann: User, clock: Clock) -> None:
    token = token_client(ann)
    secret, _ = set_up(admin_client(ann), clock)
    assert token.get("/api/v1/tasks/").status_code == 200
    for body in (None, {"code": "000000"}):
        answer = login(body)
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "code")
    assert TokenTerms.objects.count() == 1
    assert login({"code": code_of(secret, clock)}).status_code == 200
    for _ in range(AS_ONE_USER):
        login({"code": "000000"})
    clock.tick()
    refused = login({"code": code_of(secret, clock)})
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)


# Where the settings ask for it


def test_who_may_change_things_is_led_to_set_it_up(
    ann: User, circle: Circle, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "require_second_factor", True)
    client = admin_client(ann)
    assert client.get("/admin/").headers["Location"] == PAGE
    assert client.get("/api/v1/tasks/").status_code == 403
    assert login().status_code == 403
    assert token_client(ann).get("/api/v1/tasks/").status_code == 200
    assert client.get(PAGE).status_code == 200
    secret, _ = set_up(client, clock)
    assert client.get("/admin/").status_code == 200
    assert client.get("/api/v1/tasks/").status_code == 200
    assert "Turn it off" not in client.get(PAGE).content.decode()
    assert client.post(PAGE, {"do": "remove", "code": code_of(secret, clock)}).status_code == 403
    assert admin_client(in_role("vera", VIEWER, circle.names)).get("/admin/").status_code == 200
