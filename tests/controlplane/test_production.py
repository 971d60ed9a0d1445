"""What a browser is told in production: cookies, HTTPS, referrers, and what pages may run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from controlplane.checks import check_connections
from controlplane.environment import ROOT, environment


def test_django_s_own_check_of_a_production_site_finds_nothing(tmp_path: Path) -> None:
    production = {
        "CONTROLPLANE_HTTPS": "true",
        "CONTROLPLANE_ALLOWED_HOSTS": '["control.example"]',
        "CONTROLPLANE_STATE_DIR": str(tmp_path),
    }
    inherited = {key: value for key, value in os.environ.items() if key != "DJANGO_ALLOW_ASYNC_UNSAFE"}
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "INFO"],
        cwd=ROOT, env=inherited | production, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    # HSTS for other hosts is decided against, with a reason, in the settings
    assert "no issues (2 silenced)" in checked.stdout


@pytest.mark.parametrize(
    ("redis", "database", "warned"),
    [
        ("redis://u:p@redis.example/0", "postgresql://u:p@db.example/x", ["controlplane.W001", "controlplane.W002"]),
        ("rediss://u:p@r.example/0?ssl_cert_reqs=none", "", ["controlplane.W001"]),
        ("rediss://u:p@r.example/0", "postgresql://u:p@db.example/x?sslmode=require", ["controlplane.W002"]),
        ("rediss://u:p@r.example/0?ssl_ca_certs=/a", "postgresql://u:p@db.example/x?sslmode=verify-full", []),
        ("redis://127.0.0.1:6379/0", "postgresql://u:p@localhost/x", []),
        ("unix:///run/redis.sock?db=0", "postgresql://u:p@/x?host=/run", []),
    ],
)
def test_the_check_warns_of_servers_that_need_not_prove_who_they_are(
    monkeypatch: pytest.MonkeyPatch, redis: str, database: str, warned: list[str]
) -> None:
    monkeypatch.setattr(environment, "redis_url", redis)
    monkeypatch.setattr(environment, "database_url", database)
    assert [message.id for message in check_connections()] == warned


@pytest.mark.django_db
def test_pages_and_answers_have_a_policy(admin: Client, api: APIClient) -> None:
    page = admin.get("/admin/")
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-eval';" in policy  # Alpine's
    assert "frame-ancestors 'none'" in policy
    docs = api.get("/api/v1/docs/").headers["Content-Security-Policy"]
    assert "script-src 'self';" in docs
    assert api.get("/api/v1/parties/").headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert page.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.django_db
def test_the_cookie_of_a_session_is_kept_from_scripts_and_other_sites(client: Client) -> None:
    User.objects.create_user("ann", "", "a long enough password", is_staff=True)
    form = {"username": "ann", "password": "a long enough password"}
    cookie = client.post("/admin/login/", form, headers={"x-forwarded-proto": "https"}).cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert settings.SESSION_COOKIE_AGE <= 24 * 3600
