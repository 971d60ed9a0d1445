"""Who sees and changes what: choices, names, figures and messages keep to the parties of who asks.

tests/controlplane/test_every_address.py has the status of every address; this has what stands in the answers.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from controlplane.access import Access
from controlplane.models import Dataset, HEUConfig, Party, PartyGrant, PartySet, Schedule, Task
from controlplane.roles import ADMINISTRATOR, OPERATOR, ROLES, STEWARD, make_roles
from executions.coordinator import schedules
from executions.models import Execution
from tests.composed import admin_client, api_client, documents, grant, make_user, messages_of, superuser
from tests.walked import Circle, in_role

pytestmark = pytest.mark.django_db
API = "/api/v1"
#: Words of the other circle, none of which may be told.
SECRET = ("carol", "dave")


def tells(response: Any) -> list[str]:
    text = response.content.decode()
    return [word for word in SECRET if word in text]


MODELS = ("party", "dataset", "clusterconfig", "heuconfig", "task", "pipeline", "schedule")


@pytest.mark.parametrize("path", [f"controlplane/{m}/" for m in MODELS] + [f"controlplane/{m}/add/" for m in MODELS])
def test_lists_and_forms_offer_nothing_of_others(circle: Circle, operator: User, path: str) -> None:
    operator.user_permissions.set(
        operator.user_permissions.model.objects.filter(content_type__app_label="controlplane")
    )
    operator = User.objects.get(pk=operator.pk)
    page = admin_client(operator).get(f"/admin/{path}")
    assert (page.status_code, tells(page)) == (200, [])
    assert "/add/" in path or "alice" in page.content.decode()


@pytest.mark.parametrize("path", ["", "executions/execution/", "executions/pipelinerun/", "executions/deadletter/"])
def test_figures_and_lists_of_what_was_run_show_nothing_of_others(circle: Circle, operator: User, path: str) -> None:
    page = admin_client(operator).get(f"/admin/{path}")
    assert (page.status_code, tells(page)) == (200, [])
    assert "alice" in page.content.decode()


def test_the_front_page_counts_what_may_be_seen(circle: Circle, operator: User) -> None:
    def queued(user: User) -> int:
        counts = admin_client(user).get("/admin/").context["counts"]
        return next(int(count["number"]) for count in counts if count["status"] == "QUEUED")

    assert (queued(operator), queued(superuser())) == (1, 2)


def test_a_filter_shows_no_name_that_may_not_be_seen(circle: Circle, operator: User) -> None:
    carol = Party.objects.get(name="carol")
    page = admin_client(operator).get(f"/admin/controlplane/dataset/?party__id__exact={carol.pk}")
    assert tells(page) == []


@pytest.mark.parametrize(
    ("model", "field"), [("dataset", "party"), ("task", "cluster"), ("schedule", "task"), ("schedule", "pipeline")]
)
def test_autocompletion_finds_nothing_of_others(circle: Circle, operator: User, model: str, field: str) -> None:
    query = {"app_label": "controlplane", "model_name": model, "field_name": field, "term": ""}
    answer = admin_client(operator).get("/admin/autocomplete/", query)
    assert (answer.status_code, tells(answer)) == (200, [])
    assert answer.json()["results"]


def test_autocompletion_answers_whatever_the_address_names(admin: Client) -> None:
    for model in apps.get_models():
        for field in [*model._meta.get_fields(), "x", "", "\0"]:
            query = {
                "app_label": model._meta.app_label, "model_name": model._meta.model_name,
                "field_name": getattr(field, "name", field), "term": "\0",
            }  # fmt: skip
            assert admin.get("/admin/autocomplete/", query).status_code in (200, 403, 404), query


def test_a_form_takes_no_row_of_others(circle: Circle, operator: User) -> None:
    task = Task.objects.get(name__startswith="carol")
    form = {"name": "x", "cron": "* * * * *", "time_zone": "UTC", "task": task.pk, "enabled": "on"}
    page = admin_client(operator).post("/admin/controlplane/schedule/add/", form)
    assert page.status_code == 200
    assert page.context["adminform"].form.errors["task"]
    assert not Schedule.objects.filter(name="x").exists()


def test_messages_tell_no_name_of_others(circle: Circle, operator: User) -> None:
    api = api_client(operator)

    def post(path: str, body: Any) -> Any:
        # The id of the request stands in each problem, and is to be no difference
        answer = api.post(f"{API}/{path}/", body, format="json", HTTP_X_REQUEST_ID="the-same")
        assert answer.status_code == 400, answer.content
        return answer

    wrong = documents() | {"sf_init_config": {"parties": ["alice", "carol"]}}
    unknown = documents() | {"sf_init_config": {"parties": ["alice", "carxl"]}}
    for path in ("executions", "executions/dry-run", "preflights"):
        # A dry run answers 200
        same = {"HTTP_X_REQUEST_ID": "the-same"}
        answers = [api.post(f"{API}/{path}/", body, format="json", **same) for body in (wrong, unknown)]
        said = [
            answer.content.decode().replace(name, "?") for answer, name in zip(answers, ("carol", "carxl"), strict=True)
        ]
        assert said[0] == said[1], "it tells which parties there are"
    table = documents()
    table["task_config"] = table["task_config"] | {"data_sources": {"alice": "table_of_carol", "bob": "tabel_of_bob"}}
    assert tells(post("executions", table)) == ["carol"], "what was sent, and no more"
    assert "dave" not in post("pipelines", {"name": "p", "nodes": {"a": {"task": "carol-dave tusk"}}}).content.decode()
    name = Task.objects.get(name__startswith="carol").name
    both = [post("pipelines", {"name": "p", "nodes": {"a": {"task": asked}}}).json() for asked in (name, "zzzz")]
    assert both[0] == both[1]
    post("cluster-configs", {"name": "c", "document": {"parties": ["alice", "carol"]}})
    api = api_client(make_user("steward", "add_dataset", "view_party", parties=["alice"]))
    answers = [
        post("datasets", {"party": party, "name": "t", "columns": {"uid": "str"}}) for party in ("carol", "carxl")
    ]
    assert answers[0].content == answers[1].content


def test_who_has_one_party_sees_and_stops_and_does_not_run(circle: Circle) -> None:
    user = in_role("alice-s", OPERATOR, ["alice"])
    api, admin = api_client(user), admin_client(user)
    execution, task = circle.rows["execution"], circle.rows["task"]
    assert api.get(f"{API}/executions/{execution.pk}/").status_code == 200
    refused = api.post(f"{API}/executions/", {"task": task.name}, format="json")
    assert (refused.status_code, "no grant" in refused.content.decode()) == (403, True)
    assert api.patch(f"{API}/tasks/{task.pk}/", {"priority": 3}, format="json").status_code == 403
    page = admin.get(f"/admin/controlplane/task/{task.pk}/change/")
    assert "Run now" not in page.content.decode()
    assert admin.post(f"/admin/controlplane/task/{task.pk}/run/").status_code == 403
    assert api.post(f"{API}/executions/{execution.pk}/cancel/").status_code == 202


def test_shared_settings_are_changed_by_who_covers_all_that_use_them(circle: Circle, operator: User) -> None:
    theirs = Task.objects.get(name__startswith="carol").spu
    body = {"description": "faster"}
    api = api_client(operator)
    assert api.patch(f"{API}/spu-configs/{circle.rows['spuconfig'].pk}/", body, format="json").status_code == 200
    assert theirs
    assert api.patch(f"{API}/spu-configs/{theirs.pk}/", body, format="json").status_code == 403
    shown = api.get(f"{API}/spu-configs/{theirs.pk}/")
    assert (shown.status_code, shown.json()["used_by"]) == (200, [])
    page = admin_client(operator).get(f"/admin/controlplane/spuconfig/{theirs.pk}/change/")
    assert "carol-dave task" not in page.content.decode()
    heu = HEUConfig.objects.create(name="neutral")
    named = api.patch(f"{API}/heu-configs/{heu.pk}/", {"document": {"sk_keeper": "carol"}}, format="json")
    assert named.status_code == 403


def test_a_change_of_a_cluster_s_parties_moves_what_involves_it(circle: Circle, operator: User) -> None:
    cluster = circle.rows["clusterconfig"]
    access = Access(operator)
    assert access.sees(circle.rows["task"])
    cluster.document = {"parties": ["carol", "dave"]}
    cluster.save()
    for name in ("task", "pipeline", "schedule", "clusterconfig"):
        assert not access.sees(circle.rows[name]), name
    assert access.sees(circle.rows["execution"]), "it ran at alice and bob"


def test_a_schedule_runs_while_its_owner_has_all_parties(circle: Circle, operator: User) -> None:
    schedule = circle.rows["schedule"]
    schedule.confirm(by=operator)
    PartyGrant.objects.filter(user=operator, party__name="bob").delete()
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=timezone.now() - timedelta(seconds=5))
    schedules.step()
    assert "no grant for all parties" in schedule.ticks.first().skipped
    grant(operator, ["bob"])
    assert schedules.objection(Schedule.objects.get(pk=schedule.pk)) == ""


def test_a_history_of_what_was_deleted_is_for_who_sees_all(circle: Circle, operator: User) -> None:
    dataset = Dataset.objects.create(party=circle.rows["alice"], name="gone", columns={"uid": "str"})
    pk, version = dataset.pk, dataset.history.first().pk
    dataset.delete()
    for path in (f"{pk}/history/", f"{pk}/history/{version}/"):
        assert admin_client(operator).get(f"/admin/controlplane/dataset/{path}").status_code == 404
    assert admin_client(superuser()).get(f"/admin/controlplane/dataset/{pk}/history/").status_code == 200


def test_grants_of_groups_and_users_add_up(circle: Circle) -> None:
    user = make_user("ann", parties=["alice"])
    assert Access(user).parties == frozenset({"alice"})
    group = Group.objects.create(name="bob's people")
    PartyGrant.objects.create(group=group, party=circle.rows["bob"])
    user.groups.add(group)
    assert Access(user).parties == frozenset({"alice", "bob"})
    user.groups.add(Group.objects.get(name=ADMINISTRATOR))
    assert Access(User.objects.get(pk=user.pk)).parties is None
    user.is_active = False
    assert Access(user).parties == frozenset()


def test_a_party_that_comes_later_is_for_who_has_all_parties(circle: Circle, operator: User) -> None:
    Party.objects.create(name="erin", address="127.0.0.1", port_first=25000, port_last=25099)
    assert not Access(operator).visible(Party.objects.filter(name="erin")).exists()
    assert Access(make_user("all")).visible(Party.objects.filter(name="erin")).exists()


def test_roles_are_made_once_and_then_are_the_operator_s_own(db: None) -> None:
    group = Group.objects.get(name=OPERATOR)
    assert group.permissions.count() == len(ROLES[OPERATOR])
    group.permissions.clear()
    make_roles()
    assert group.permissions.count() == 0, "an upgrade must not give back what somebody took away"
    group.delete()
    call_command("migrate", verbosity=0)
    assert Group.objects.get(name=OPERATOR).permissions.count() == len(ROLES[OPERATOR])


def test_only_a_superuser_makes_superusers(db: None) -> None:
    administrator, root = in_role("administrator", ADMINISTRATOR), superuser()
    client = admin_client(administrator)
    page = f"/admin/auth/user/{administrator.pk}/change/"
    form = client.get(page).context["adminform"].form
    assert "is_superuser" not in form.fields
    assert client.post(f"/admin/auth/user/{root.pk}/password/", {}).status_code == 403
    assert client.post(f"/admin/auth/user/{root.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"/admin/auth/user/{root.pk}/change/", {"username": "toor"}).status_code == 403


def test_lists_are_filtered_by_one_indexed_column(
    circle: Circle, operator: User, django_assert_num_queries: Any
) -> None:
    Execution.objects.submit(circle.rows["task"].documents())
    assert PartySet.objects.filter(names=["alice", "bob"]).count() == 1, "each combination is kept once"
    api = api_client(operator)
    api.get(f"{API}/executions/")
    with django_assert_num_queries(3):  # the grants, the sets with one of the parties, and the page
        found = api.get(f"{API}/executions/").json()["results"]
    assert len(found) == 2
    assert json.dumps(found).count("carol") == 0


def test_messages_of_a_change_name_no_task_of_others(circle: Circle) -> None:
    client = admin_client(in_role("operator", OPERATOR, circle.names))
    spu = circle.rows["spuconfig"]
    form = {"name": spu.name, "description": "new", "document__view": "text", "document__text": "{}"}
    answer = client.post(f"/admin/controlplane/spuconfig/{spu.pk}/change/", form, follow=True)
    assert any("1 task uses it" in message for message in messages_of(answer))


def test_a_range_of_ports_names_no_other_party(circle: Circle) -> None:
    steward = api_client(in_role("steward", STEWARD, ["alice"]))
    body = {"port_first": 22050, "port_last": 22060}
    answer = steward.patch(f"{API}/parties/{circle.rows['alice'].pk}/", body, format="json")
    assert (answer.status_code, tells(answer)) == (400, [])
    assert "another party (22000-22099)" in answer.content.decode()
