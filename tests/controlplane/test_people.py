"""Users, roles and parties as the console shows and changes them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from controlplane.abilities import ABILITIES, Extent, table
from controlplane.access import Access
from controlplane.models import AuditEntry, Party, PartyGrant
from controlplane.roles import ADMINISTRATOR, OPERATOR, STEWARD, VIEWER
from tests.composed import admin_client, make_user, superuser
from tests.walked import Circle, in_role

pytestmark = pytest.mark.django_db
USERS, GROUPS = "/admin/auth/user/", "/admin/auth/group/"


def change(client: Client, user: User, **fields: Any) -> Any:
    """Post the page of a user, with everything as it is but for these fields."""
    page = f"{USERS}{user.pk}/change/"
    form = client.get(page).context["adminform"].form
    sent: dict[str, Any] = {}
    for name, field in form.fields.items():
        value = fields.get(name, form.get_initial_for_field(field, name))
        if value not in (None, False, ""):
            sent[name] = [getattr(one, "pk", one) for one in value] if isinstance(value, list) else value
    return client.post(page, sent)


def group(name: str) -> int:
    return Group.objects.get(name=name).pk


def test_every_ability_names_permissions_that_there_are() -> None:
    known = {f"{p.content_type.app_label}.{p.codename}" for p in Permission.objects.select_related("content_type")}
    assert {name for ability in ABILITIES for name in ability.permissions} - known == set()


def test_the_table_tells_what_each_role_may() -> None:
    held = []
    for name in (VIEWER, OPERATOR, STEWARD, ADMINISTRATOR):
        rows = Group.objects.get(name=name).permissions.values_list("content_type__app_label", "codename")
        held.append({f"{app}.{codename}" for app, codename in rows})
    found = dict(table(held))
    yes, no = Extent.WHOLE, Extent.NONE
    assert found["Run tasks and pipelines"] == [no, yes, no, yes]
    assert found["Look at executions, their events and results"] == [yes] * 4
    assert found["Register and change datasets"] == [no, no, yes, yes]
    assert table([{"controlplane.add_task"}])[4][1] == [Extent.PART]


def test_the_page_of_a_user_has_roles_and_not_permissions(circle: Circle, operator: User) -> None:
    page = admin_client(superuser()).get(f"{USERS}{operator.pk}/change/").content.decode()
    assert "Run tasks and pipelines" in page
    assert "user_permissions" not in page
    checked = re.findall(r'name="groups" value="(\d+)" checked', page)
    assert checked == [str(group(OPERATOR))]


def test_roles_and_parties_are_given_and_taken(circle: Circle, operator: User) -> None:
    client = admin_client(superuser())
    carol = Party.objects.get(name="carol")
    answer = change(client, operator, groups=[group(VIEWER)], parties=[carol.pk])
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    user = User.objects.get(pk=operator.pk)
    assert [g.name for g in user.groups.all()] == [VIEWER]
    assert Access(user).parties == frozenset({"carol"})
    assert change(client, user, all_parties=True).status_code == 302
    assert Access(User.objects.get(pk=user.pk)).parties is None
    assert change(client, user, all_parties="", parties=[]).status_code == 302
    assert Access(User.objects.get(pk=user.pk)).parties == frozenset()
    assert AuditEntry.objects.filter(action="delete", subject__startswith="grant of a party").exists()


def test_nobody_gives_away_parties_that_they_do_not_have(circle: Circle) -> None:
    giver = make_user("giver", "change_user", "view_user", "change_partygrant", parties=["alice"])
    user = make_user("ann", parties=["carol"])
    client = admin_client(giver)
    page = client.get(f"{USERS}{user.pk}/change/").content.decode()
    assert "bob" not in page
    bob, alice = Party.objects.get(name="bob"), Party.objects.get(name="alice")
    assert change(client, user, parties=[bob.pk]).status_code == 200, "it took what is not offered"
    assert change(client, user, parties=[alice.pk], all_parties="on").status_code == 302
    assert Access(User.objects.get(pk=user.pk)).parties == frozenset({"alice", "carol"}), "what it does not see, stays"


def test_who_may_not_grant_parties_sees_them(circle: Circle, operator: User) -> None:
    client = admin_client(make_user("clerk", "change_user", "view_user"))
    page = client.get(f"{USERS}{operator.pk}/change/")
    assert "parties" not in page.context["adminform"].form.fields
    assert "alice, bob" in page.content.decode()
    looker = admin_client(make_user("looker", "view_user")).get(f"{USERS}{operator.pk}/change/")
    assert (looker.status_code, "alice, bob" in looker.content.decode()) == (200, True)


def test_the_list_has_roles_parties_and_last_sign_in(circle: Circle, operator: User) -> None:
    in_role("ada", ADMINISTRATOR)
    client = admin_client(superuser())
    client.get(USERS)
    page = client.get(USERS).content.decode()
    assert "Operator" in page
    assert "alice, bob" in page
    assert "never" in page
    assert client.get(f"{USERS}csv/").status_code == 200


def test_permissions_given_one_by_one_are_shown_and_taken_away(circle: Circle) -> None:
    user = make_user("bot", "view_task")
    client = admin_client(superuser())
    assert "view task" in client.get(f"{USERS}{user.pk}/change/").content.decode()
    assert change(client, user).status_code == 302
    assert user.user_permissions.count() == 1
    assert change(client, user, take_single="on").status_code == 302
    assert user.user_permissions.count() == 0


def test_the_page_of_a_group_keeps_what_it_does_not_show(circle: Circle) -> None:
    odd = Permission.objects.get(codename="view_session")
    some = Group.objects.create(name="some")
    some.permissions.add(odd)
    client = admin_client(superuser())
    page = f"{GROUPS}{some.pk}/change/"
    shown = client.get(page).content.decode()
    assert "ession" not in shown.partition("cpp-matrix")[2].partition("</table>")[0]
    task = Permission.objects.get(codename="view_task")
    alice = Party.objects.get(name="alice").pk
    assert client.post(page, {"name": "some", "permissions": [task.pk], "parties": [alice]}).status_code == 302
    assert {p.codename for p in some.permissions.all()} == {"view_session", "view_task"}
    assert PartyGrant.objects.get(group=some).party_id == alice
    refused = client.post(page, {"name": "some", "permissions": [odd.pk]})
    assert refused.context["adminform"].form.errors["permissions"]
