"""API tokens: what they may do, for which parties, until when; and who makes them."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from controlplane.models import Party, PartyGrant, TokenTerms
from controlplane.models.token import Scope
from controlplane.roles import ADMINISTRATOR, OPERATOR
from tests.composed import admin_client, documents, errors_of, make_user, superuser, token_client
from tests.walked import Circle, in_role

pytestmark = pytest.mark.django_db
API = "/api/v1"
ADD = "/admin/knox/authtoken/add/"


def carrying(text: str) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Token {text}")
    return client


def statuses(client: APIClient, circle: Circle) -> list[int]:
    """Of reading, submitting and managing."""
    task = circle.rows["task"]
    return [
        client.get(f"{API}/tasks/").status_code,
        client.post(f"{API}/executions/", documents_of(circle), format="json").status_code,
        client.patch(f"{API}/tasks/{task.pk}/", {"priority": 3}, format="json").status_code,
    ]


def documents_of(circle: Circle) -> dict[str, Any]:
    return documents() | {"task_config": circle.rows["task"].document}


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (["read"], [200, 403, 403]),
        (["submit"], [403, 201, 403]),
        (["manage"], [403, 403, 200]),
        (["read", "submit", "manage"], [200, 201, 200]),
        ([], [403, 403, 403]),
    ],
)
def test_a_token_does_what_its_scopes_permit(
    circle: Circle, operator: User, scopes: list[str], expected: list[int]
) -> None:
    assert statuses(token_client(operator, scopes=scopes), circle) == expected


def test_a_scope_gives_nothing_that_its_user_may_not_do(circle: Circle) -> None:
    nobody = make_user("nobody")
    assert statuses(token_client(nobody), circle) == [403, 403, 403]


def test_a_token_loses_what_its_user_loses(circle: Circle, operator: User) -> None:
    client = token_client(operator, parties=frozenset({"alice", "bob", "carol"}))
    assert statuses(client, circle) == [200, 201, 200]
    assert not client.get(f"{API}/parties/?name=carol").json()["results"], "its user has no grant for it"
    PartyGrant.objects.filter(user=operator, party__name="bob").delete()
    assert statuses(client, circle) == [200, 400, 403]
    operator.groups.clear()
    assert statuses(client, circle) == [403, 403, 403]
    operator.is_active = False
    operator.save()
    assert client.get(f"{API}/tasks/").status_code == 401


def test_a_superuser_s_token_is_limited_by_its_parties(circle: Circle) -> None:
    client = token_client(superuser(), parties=frozenset({"alice"}))
    assert [party["name"] for party in client.get(f"{API}/parties/").json()["results"]] == ["alice"]
    assert client.get(f"{API}/executions/").json()["results"][0]["parties"] == ["alice", "bob"]
    assert client.post(f"{API}/executions/", documents_of(circle), format="json").status_code == 400


def test_a_token_without_terms_may_do_nothing(circle: Circle) -> None:
    _, text = AuthToken.objects.create(superuser())
    client = carrying(text)
    assert statuses(client, circle) == [403, 403, 403]


def test_an_expired_token_is_refused(circle: Circle, operator: User) -> None:
    client = token_client(operator)
    AuthToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    assert client.get(f"{API}/tasks/").status_code == 401


def test_its_last_use_is_noted_once_a_minute(
    circle: Circle, operator: User, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = token_client(operator)
    terms = TokenTerms.objects.get()
    assert terms.last_used_at is None
    client.get(f"{API}/site/")
    first = TokenTerms.objects.get().last_used_at
    assert first
    client.get(f"{API}/site/")
    assert TokenTerms.objects.get().last_used_at == first
    TokenTerms.objects.update(last_used_at=first - timedelta(seconds=61))
    client.get(f"{API}/site/")
    assert TokenTerms.objects.filter(last_used_at__gte=first).exists()
    with django_assert_num_queries(1):  # one query finds the token, its user and its terms
        client.get(f"{API}/task-types/")


# Making them


def login(body: Any = None, password: str = "right horse battery") -> Any:
    basic = b64encode(f"ann:{password}".encode()).decode()
    client = APIClient(raise_request_exception=False)
    return client.post(f"{API}/auth/login/", body, format="json", headers={"Authorization": f"Basic {basic}"})


@pytest.fixture
def ann(circle: Circle, settings: Any) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    user = in_role("ann", OPERATOR, circle.names)
    user.set_password("right horse battery")
    user.save()
    return user


def test_the_login_makes_one_for_the_day(ann: User, circle: Circle) -> None:
    answer = login()
    assert answer.status_code == 200
    token = AuthToken.objects.get()
    assert timedelta(hours=9) < token.expiry - timezone.now() <= timedelta(hours=10)
    assert statuses(carrying(answer.json()["token"]), circle) == [200, 201, 200]


def test_the_login_makes_what_it_is_asked_for(ann: User, circle: Circle) -> None:
    body = {"name": "nightly", "scopes": ["read"], "parties": ["alice"], "days": 30}
    answer = login(body)
    assert answer.status_code == 200, answer.content
    terms = TokenTerms.objects.select_related("token").get()
    assert (terms.name, terms.scopes, terms.parties) == ("nightly", ["read"], ["alice"])
    assert timedelta(days=29) < terms.token.expiry - timezone.now() <= timedelta(days=30)
    assert statuses(carrying(answer.json()["token"]), circle) == [200, 403, 403]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"scopes": ["everything"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"parties": ["carol"]}, "parties.0"),
        ({"parties": ["nobody"]}, "parties.0"),
        ({"parties": []}, "parties"),
        ({"days": 366}, "days"),
        ({"days": 0}, "days"),
        ({"lifetime": 3}, "lifetime"),
    ],
)
def test_the_login_says_what_is_wrong(ann: User, body: Any, path: str) -> None:
    assert list(errors_of(login(body))) == [path]
    assert not AuthToken.objects.exists()


def test_a_page_makes_one_and_shows_it_once(circle: Circle, operator: User) -> None:
    client = admin_client(operator)
    form = {"name": "nightly", "scopes": ["read"], "parties": [circle.rows["alice"].pk], "days": 90}
    assert client.get(ADD).status_code == 200
    made = client.post(ADD, form)
    assert "no-store" in made.headers["Cache-Control"]
    found = re.search(r"data-token>([0-9a-f]{64})<", made.content.decode())
    assert found
    assert statuses(carrying(found[1]), circle) == [200, 403, 403]
    token = AuthToken.objects.get()
    assert (token.user, token.terms.parties) == (operator, ["alice"])
    assert timedelta(days=89) < token.expiry - timezone.now() <= timedelta(days=90)
    for page in ("/admin/knox/authtoken/", f"/admin/knox/authtoken/{token.pk}/change/", ADD):
        shown = client.get(page)
        assert (shown.status_code, found[1] in shown.content.decode()) == (200, False)


@pytest.mark.parametrize(
    "change",
    [{"days": 366}, {"days": 0}, {"scopes": []}, {"name": ""}, {"parties": ["carol"]}, {"parties": ["other"]}],
)
def test_the_page_refuses_what_is_wrong(circle: Circle, operator: User, change: dict[str, Any]) -> None:
    if change.get("parties") == ["carol"]:
        change = {"parties": [Party.objects.get(name="carol").pk]}
    form = {"name": "nightly", "scopes": ["read"], "days": 90} | change
    page = admin_client(operator).post(ADD, form)
    assert page.status_code == 200
    assert list(page.context["form"].errors) == list(change)
    assert not AuthToken.objects.exists()


def test_users_see_and_revoke_their_own(circle: Circle, operator: User) -> None:
    TokenTerms.make_token(operator, "mine")
    TokenTerms.make_token(make_user("other"), "of another")
    mine, others = (AuthToken.objects.get(terms__name=name) for name in ("mine", "of another"))
    client = admin_client(operator)
    assert [token.terms.name for token in client.get("/admin/knox/authtoken/").context["cl"].result_list] == ["mine"]
    assert client.post(f"/admin/knox/authtoken/{others.pk}/delete/", {"post": "yes"}).status_code == 404
    assert client.post(f"/admin/knox/authtoken/{mine.pk}/delete/", {"post": "yes"}).status_code == 302
    administrator = admin_client(in_role("administrator", ADMINISTRATOR))
    assert administrator.post(f"/admin/knox/authtoken/{others.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not AuthToken.objects.exists()


def test_the_list_says_what_each_may_do_and_since_when(circle: Circle, operator: User) -> None:
    TokenTerms.make_token(operator, "mine", ["read"], frozenset({"alice"}))
    old = TokenTerms.make_token(operator, "old")[0]
    AuthToken.objects.filter(pk=old.pk).update(expiry=timezone.now() - timedelta(days=2))
    client = admin_client(operator)
    page = client.get("/admin/knox/authtoken/").content.decode()
    for text in ("API tokens", "mine", "Read", "alice", "never", "expired", "2 days ago", "Revoke"):
        assert text in page, text
    mine = AuthToken.objects.get(terms__name="mine")
    asked = client.get(f"/admin/knox/authtoken/{mine.pk}/delete/").content.decode()
    assert "Revoke the token mine" in asked
    assert mine.digest not in asked.replace(f"/{mine.pk}/", "")
    assert client.post(f"/admin/knox/authtoken/{mine.pk}/delete/").status_code == 200, "a post without the form's word"
    assert AuthToken.objects.count() == 2


def test_the_command_makes_one(circle: Circle, operator: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("token", "operator", "--name", "nightly", "--scope", "submit", "--scope", "read", "--party", "alice")
    text = capsys.readouterr().out.strip()
    token = AuthToken.objects.get()
    assert (token.terms.scopes, token.terms.parties) == (["read", "submit"], ["alice"])
    assert timedelta(days=89) < token.expiry - timezone.now() <= timedelta(days=90)
    assert carrying(text).get(f"{API}/tasks/").status_code == 200
    call_command("token", "operator")
    assert sorted(TokenTerms.objects.get(parties__isnull=True).scopes) == sorted(Scope.values)
    for wrong in (["--days", "366"], ["--days", "0"], ["--party", "alicf"], ["--scope", "all"], ["--name", ""]):
        with pytest.raises(CommandError):
            call_command("token", "operator", *wrong)
