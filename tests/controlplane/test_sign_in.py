"""How often somebody may try to sign in: refused before the password costs anything, in the admin and the API."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from controlplane.environment import Environment, environment
from controlplane.models import SignInTries
from controlplane.sign_in import AS_ONE_USER, FROM_ONE_ADDRESS

pytestmark = pytest.mark.django_db
API, ADMIN = "/api/v1/auth/login/", "/admin/login/"
RIGHT, HERE, THERE = "right horse battery", "198.51.100.7", "203.0.113.9"


@pytest.fixture(autouse=True)
def hashed(settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every password that was hashed. In place of the 1.4 s that each takes."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    User.objects.create_superuser("root", password=RIGHT)
    seen: list[str] = []
    encode = MD5PasswordHasher.encode

    def noting(hasher: Any, password: str, salt: str) -> str:
        seen.append(password)
        return encode(hasher, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", noting)
    return seen


def api(password: str, name: str = "root", address: str = HERE, **headers: str) -> Any:
    basic = b64encode(f"{name}:{password}".encode()).decode()
    sent: Any = {"headers": {"Authorization": f"Basic {basic}"}, "REMOTE_ADDR": address, **headers}
    return Client().post(API, content_type="application/json", **sent)


def admin(password: str, name: str = "root", address: str = HERE) -> Any:
    return Client().post(f"{ADMIN}?next=/admin/", {"username": name, "password": password}, REMOTE_ADDR=address)


@pytest.mark.parametrize("sign_in", [api, admin])
def test_too_many_tries_are_refused_before_the_password_is_hashed(sign_in: Any, hashed: list[str]) -> None:
    for _ in range(AS_ONE_USER):
        assert sign_in("wrong").status_code in (200, 401)
    assert len(hashed) == AS_ONE_USER
    refused = sign_in(RIGHT)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 900
    assert len(hashed) == AS_ONE_USER, "it cost a hash"
    assert "oo many tries" in refused.content.decode()


def test_the_admin_and_the_api_count_together() -> None:
    for _ in range(AS_ONE_USER):
        admin("wrong")
    assert api(RIGHT).status_code == 429
    assert admin(RIGHT).status_code == 429


def test_nobody_is_locked_out_from_elsewhere() -> None:
    for _ in range(AS_ONE_USER * 3):
        api("wrong", address=THERE)
    assert api(RIGHT, address=THERE).status_code == 429
    assert api(RIGHT).status_code == 200
    assert admin(RIGHT).status_code == 302


def test_one_address_cannot_try_all_names(hashed: list[str]) -> None:
    for number in range(FROM_ONE_ADDRESS):
        assert api("123456", name=f"user-{number}").status_code == 401
    assert api("123456", name="one more").status_code == 429
    assert len(hashed) == FROM_ONE_ADDRESS
    assert api("123456", name="one more", address=THERE).status_code == 401


def test_a_host_s_addresses_of_ipv6_count_as_one() -> None:
    for number in range(AS_ONE_USER):
        api("wrong", address=f"2001:db8:1:2::{number + 1:x}")
    assert api(RIGHT, address="2001:db8:1:2:ffff::1").status_code == 429
    assert api(RIGHT, address="2001:db8:1:3::1").status_code == 200


def test_it_ends_after_a_while_and_with_success() -> None:
    for _ in range(AS_ONE_USER - 1):
        api("wrong")
    assert api(RIGHT).status_code == 200
    for _ in range(AS_ONE_USER):
        assert api("wrong").status_code == 401
    assert api(RIGHT).status_code == 429
    SignInTries.objects.update(since=timezone.now() - timedelta(minutes=16))
    assert api(RIGHT).status_code == 200
    SignInTries.objects.update(since=timezone.now() + timedelta(days=1))  # the clock was put back
    assert api(RIGHT).status_code == 200


def test_what_is_old_is_forgotten() -> None:
    api("wrong", address=THERE)
    SignInTries.objects.update(since=timezone.now() - timedelta(minutes=16))
    api("wrong")
    assert all(HERE in tries.key for tries in SignInTries.objects.all())


def test_signing_in_often_is_no_offence() -> None:
    for _ in range(FROM_ONE_ADDRESS + 3):
        assert api(RIGHT).status_code == 200


def test_the_address_is_what_our_own_proxy_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "proxies", 1)
    for number in range(AS_ONE_USER):  # what the caller itself wrote into the header differs each time
        assert api("wrong", address="127.0.0.1", HTTP_X_FORWARDED_FOR=f"10.0.0.{number}, {HERE}").status_code == 401
    assert api(RIGHT, address="127.0.0.1", HTTP_X_FORWARDED_FOR=f"10.1.1.1, {HERE}").status_code == 429
    assert api(RIGHT, address="127.0.0.1", HTTP_X_FORWARDED_FOR=f"{HERE}, {THERE}").status_code == 200
    monkeypatch.setattr(environment, "proxies", 0)
    assert api("wrong", address=THERE, HTTP_X_FORWARDED_FOR=HERE).status_code == 401, (
        "without a proxy it is not believed"
    )


@pytest.mark.parametrize("name", ["x" * 5000, "\N{SNOWMAN}" * 150, "a b\tc"])
def test_odd_names_are_wrong_names(name: str) -> None:
    assert api("wrong", name=name).status_code == 401
    assert admin("wrong", name=name).status_code == 200


def test_one_proxy_is_expected_with_https() -> None:
    assert Environment(https=False).proxy_count == 0
    assert Environment(https=True).proxy_count == 1
    assert Environment(https=True, proxies=0).proxy_count == 0
    assert Environment(https=False, proxies=2).proxy_count == 2
