"""Inviting users: a link that works once, for a while, and tells nothing to who has none."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Group, User
from django.core import mail
from django.test import Client
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from controlplane.access import Access
from controlplane.environment import environment
from controlplane.models import AuditEntry, Party
from controlplane.people.links import token_generator
from controlplane.roles import ADMINISTRATOR, OPERATOR
from controlplane.sign_in import FROM_ONE_ADDRESS
from tests.composed import admin_client, make_user, superuser
from tests.walked import Circle, in_role

pytestmark = pytest.mark.django_db
ADD, USERS = "/admin/auth/user/add/", "/admin/auth/user/"
PASSWORD = "seven blue lanterns"


@pytest.fixture(autouse=True)
def cheap_hashes(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def link_in(page: Any) -> str:
    found = re.search(r"data-link>http://testserver(/\S+/)<", page.content.decode())
    assert found, page.content.decode()[-3000:]
    return found[1]


def invite(client: Client, name: str = "ann", **fields: Any) -> Any:
    return client.post(ADD, {"username": name, "is_staff": "on"} | fields)


def follow(link: str, password: str = PASSWORD, client: Client | None = None) -> Any:
    """Open a link and set a password."""
    client = client or Client(raise_request_exception=False)
    form = client.get(link)
    if form.status_code != 302:
        return form
    return client.post(form.headers["Location"], {"new_password1": password, "new_password2": password})


def sign_in(name: str = "ann", password: str = PASSWORD) -> bool:
    return bool(Client().post("/admin/login/", {"username": name, "password": password}).status_code == 302)


def test_an_invited_user_sets_a_password_and_signs_in(circle: Circle) -> None:
    administrator = admin_client(in_role("ada", ADMINISTRATOR))
    operator, alice = Group.objects.get(name=OPERATOR), Party.objects.get(name="alice")
    made = invite(administrator, groups=[operator.pk], parties=[alice.pk])
    assert "no-store" in made.headers["Cache-Control"]
    user = User.objects.get(username="ann")
    assert (user.is_staff, user.is_superuser, user.has_usable_password()) == (True, False, False)
    assert Access(user).parties == frozenset({"alice"})
    assert not sign_in(password="")
    set_it = follow(link_in(made))
    assert (set_it.status_code, set_it.headers["Location"]) == (302, "/admin/login/")
    assert sign_in()
    told = list(AuditEntry.objects.filter(subject="user ann").values_list("actor", "action"))
    assert ("ada", "invite") in told
    assert ("ann", "set password") in told


def test_a_link_works_once_and_the_newest_alone(circle: Circle) -> None:
    admin = admin_client(superuser())
    first = link_in(invite(admin))
    user = User.objects.get(username="ann")
    page = f"{USERS}{user.pk}/link/"
    assert admin.get(page).status_code == 200
    second = link_in(admin.post(page))
    assert follow(first).status_code == 404
    assert follow(second).status_code == 302
    assert follow(second, "another good one").status_code == 404
    assert sign_in()
    assert follow(link_in(admin.post(page)), "a third one, long").status_code == 302, "the password was lost"
    assert not sign_in()


def test_a_link_expires(circle: Circle, monkeypatch: pytest.MonkeyPatch) -> None:
    link = link_in(invite(admin_client(superuser())))
    later = datetime.now() + timedelta(seconds=django_settings.PASSWORD_RESET_TIMEOUT + 5)
    monkeypatch.setattr(token_generator, "_now", lambda: later)
    assert follow(link).status_code == 404
    assert not sign_in()


def test_a_link_of_who_was_made_inactive_is_not_valid(circle: Circle) -> None:
    link = link_in(invite(admin_client(superuser())))
    User.objects.filter(username="ann").update(is_active=False)
    assert follow(link).status_code == 404


def test_wrong_links_get_one_answer_and_are_limited(circle: Circle) -> None:
    key = urlsafe_base64_encode(force_bytes(make_user("ann").pk))
    client, texts = Client(raise_request_exception=False), set()
    wrong = [f"/admin/set-password/{who}/{token}/" for who in (key, "OTk5OTk5", "x", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5")
             for token in ("set-password", "abc-def", "x")]  # fmt: skip
    for path in wrong:
        answer = client.get(path)
        assert answer.status_code == 404, path
        texts.add(re.sub(r"<input[^>]*csrf[^>]*>", "", answer.content.decode()))
    assert len(texts) == 1, "it tells who there is"
    for _ in range(FROM_ONE_ADDRESS - len(wrong)):
        client.get(wrong[0])
    refused = client.get(wrong[0])
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)


@pytest.mark.parametrize("password", ["short", "password123", "ann-ann-1"])
def test_a_weak_password_is_refused_with_a_reason(circle: Circle, password: str) -> None:
    answer = follow(link_in(invite(admin_client(superuser()), name="ann-ann-1")), password)
    assert answer.status_code == 200
    assert answer.context["form"].errors["new_password2"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": "ann"}, "username"), ({"name": ""}, "username"), ({"name": "a b"}, "username"),
        ({"name": "x" * 151}, "username"), ({"name": "bea", "email": "nowhere"}, "email"),
        ({"name": "bea", "groups": ["99999"]}, "groups"), ({"name": "bea", "parties": ["x"]}, "parties"),
    ],
)  # fmt: skip
def test_a_wrong_invitation_names_the_field(circle: Circle, fields: dict[str, Any], wrong: str) -> None:
    make_user("ann")
    answer = invite(admin_client(superuser()), **fields)
    assert answer.status_code == 200
    assert list(answer.context["form"].errors) == [wrong]
    assert not User.objects.filter(username="bea").exists()


def test_it_is_mailed_if_there_is_a_mail_server(circle: Circle, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = admin_client(superuser())
    invite(admin, email="ann@example.org")
    assert mail.outbox == [], "no server is set"
    monkeypatch.setattr(environment, "email_host", "mail.example.org")
    made = invite(admin, name="bea", email="bea@example.org")
    assert "was sent to bea@example.org" in made.content.decode()
    (message,) = mail.outbox
    assert message.to == ["bea@example.org"]
    assert link_in(made) in message.body
    monkeypatch.setattr("django.core.mail.EmailMessage.send", fail)
    made = invite(admin, name="cy", email="cy@example.org")
    assert "was not sent" in made.content.decode()
    assert link_in(made)


def fail(*_: Any) -> None:
    raise ConnectionRefusedError("no such server")


def test_links_name_hosts_of_ours_alone(circle: Circle) -> None:
    admin = admin_client(superuser())
    assert admin.post(ADD, {"username": "ann"}, HTTP_HOST="evil.example").status_code == 400
    assert not User.objects.filter(username="ann").exists()


def test_who_may_not_grant_parties_invites_without(circle: Circle) -> None:
    clerk = admin_client(make_user("clerk", "add_user", "change_user", "view_user"))
    alice = Party.objects.get(name="alice")
    assert invite(clerk, parties=[alice.pk], all_parties="on").status_code == 200
    assert Access(User.objects.get(username="ann")).parties == frozenset()


def test_only_a_superuser_makes_links_for_superusers(circle: Circle) -> None:
    administrator = admin_client(in_role("ada", ADMINISTRATOR))
    assert administrator.post(f"{USERS}{superuser().pk}/link/").status_code == 403
    assert admin_client(make_user("looker", "view_user")).post(f"{USERS}{superuser().pk}/link/").status_code == 403


def test_who_uses_the_api_alone_is_not_sent_to_the_console(circle: Circle) -> None:
    link = link_in(invite(admin_client(superuser()), is_staff=""))
    answer = follow(link)
    assert (answer.status_code, "use the API" in answer.content.decode()) == (200, True)


def test_who_sets_a_password_is_signed_out_of_another_account(circle: Circle) -> None:
    link = link_in(invite(admin_client(superuser())))
    client = admin_client(make_user("bea", parties=()))
    assert follow(link, client=client).status_code == 302
    assert client.get("/admin/").status_code == 302
