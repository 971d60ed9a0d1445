"""The client and the API as it is agree with each other."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from redis import Redis
from secretflow_controlplane_client import Client, ControlPlaneError, Retry
from secretflow_controlplane_client.cli import main
from secretflow_controlplane_client.profile_file import read_profile
from secretflow_controlplane_client.protocol import NoAnswer
from secretflow_controlplane_client.webhooks import WebhookInvalid, verify_webhook

from controlplane.environment import ROOT
from controlplane.models import Dataset, Party, Site, Task, TokenTerms
from controlplane.profiles.apply import plan
from controlplane.profiles.yaml import ProfileInvalid, read
from executions.coordinator.posting import headers_of, new_keys
from executions.models import Execution
from executions.models.webhook import Signature, Webhook
from executions.states import Status
from tests.composed import PROFILE, documents, make_task, superuser


@pytest.fixture
def client(live_server: Any, connection: Redis) -> Iterator[Client]:
    _, token = TokenTerms.make_token(superuser(), "a service")
    with Client(live_server.url, token, retry=Retry(attempts=1)) as found:
        yield found


def test_a_task_is_submitted_watched_cancelled_and_run_again(client: Client) -> None:
    make_task()
    deadline = timezone.now() + timedelta(days=1)
    made = client.submit("customers-psi", labels={"team": "risk"}, deadline=deadline, priority=5)
    assert (made.status, made.labels, made.deadline, made.parties) == (
        "QUEUED",
        {"team": "risk"},
        deadline,
        ["alice", "bob"],
    )
    assert (made.changes[0].to_status, made.submitted_by) == ("QUEUED", "root")
    assert client.get(made) == client.get(made.id)
    with pytest.raises(ControlPlaneError) as refused:
        client.wait(made, 0.2)
    assert refused.value.kind == "time-limit"
    assert [one.id for one in client.list(label={"team": "risk"}, created_after=made.created_at)] == [made.id]
    assert list(client.list(status=["SUCCESS"])) == []
    assert list(client.logs(made)) == []
    assert list(client.reported(made)) == []
    assert client.cancel(made).status == "CANCELLED"
    assert client.wait(made, 5).has_ended
    again = client.retry(made, name="again")
    assert (again.name, again.status) == ("again", "QUEUED")
    assert Execution.objects.count() == 2


def test_a_write_whose_answer_was_lost_is_done_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_task()
    send, lost = client._send, list[Any]()

    def loses_the_first(call: Any) -> Any:
        answer = send(call)
        if not lost:
            lost.append(answer)
            return NoAnswer("the connection broke")
        return answer

    monkeypatch.setattr(client, "_send", loses_the_first)
    client.retrying = Retry()
    made = client.submit("customers-psi")
    assert [str(pk) for pk in Execution.objects.values_list("pk", flat=True)] == [made.id]


def test_documents_are_checked_and_every_problem_is_named(client: Client) -> None:
    make_task()
    assert client.dry_run(documents=documents()).valid
    wrong = {"task_config": {"outputs": {"alice": 1}, "task_type": "pso"}}
    with pytest.raises(ControlPlaneError) as refused:
        client.submit("customers-psi", overrides=wrong)
    assert (refused.value.kind, refused.value.status) == ("invalid", 400)
    assert "task_config.outputs.alice" in [problem.path for problem in refused.value.errors]
    with pytest.raises(ControlPlaneError) as missing:
        client.get("6a0e0000-0000-0000-0000-000000000000")
    assert (missing.value.kind, missing.value.status) == ("not-found", 404)
    assert not Execution.objects.exists()


def test_a_result_of_what_has_ended(client: Client) -> None:
    made = client.submit(make_task().name)
    result = {"intersection_count": {"alice": 3, "bob": 3}}
    Execution.objects.filter(pk=made.id).update(status=Status.SUCCESS, ended_at=timezone.now(), result=result)
    assert client.result(made).as_dict() == result


def test_a_stream_needs_a_server_that_streams(client: Client) -> None:
    with pytest.raises(ControlPlaneError) as refused:
        list(client.events())
    assert refused.value.kind == "not-acceptable", "the tests' server is none"


def test_what_is_registered_is_read_and_changed_in_its_version(client: Client) -> None:
    make_task()
    tasks = client.resources("tasks")
    task = tasks.get("customers-psi")
    assert task["cluster"] == "alice-bob"
    changed = tasks.patch(task, description="every night")
    assert (changed.version, changed["description"]) == (task.version + 1, "every night")
    for act in (lambda: tasks.patch(task, description="x"), lambda: tasks.delete(task)):
        with pytest.raises(ControlPlaneError) as stale:
            act()
        assert (stale.value.kind, stale.value.status) == ("stale", 412)
    tasks.delete(changed)
    assert list(tasks.list()) == []
    made = client.resources("datasets").create(party="alice", name="new", columns={"uid": "str"})
    assert client.resources("datasets").get("new", party__name="alice").id == made.id
    with pytest.raises(ControlPlaneError) as none:
        tasks.get("customers-psi")
    assert none.value.kind == "not-found"


@pytest.mark.parametrize("kind", list(Signature.values))
def test_webhooks_of_the_control_plane_are_verified(kind: str) -> None:
    (old, former, _), (new, _, _) = new_keys(kind), new_keys(kind)
    until = timezone.now() + timedelta(hours=1)
    hook = Webhook(signature=kind, secret=new, former_secret=old, former_until=until)
    body = '{"id": "é"}'
    headers = headers_of(hook, "msg_1", body, int(time.time()))
    verify_webhook(headers, body.encode(), former)
    verify_webhook(headers, body, [former])
    with pytest.raises(WebhookInvalid):
        verify_webhook(headers, body + " ", former)


# --- profiles


@pytest.mark.parametrize("path", [None, "config/dev.yaml", "config/prod.yaml"])
def test_a_profile_is_registered_once(client: Client, tmp_path: Path, path: str | None) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text((ROOT / path).read_text() if path else PROFILE)
    found = client.apply(file)
    assert (found.refused, found.unchanged) == ({}, [])
    assert {f"parties.{party.name}" for party in Party.objects.all()} <= set(found.created)
    assert plan(file.read_bytes()).nothing, "manage.py profile would change nothing either"
    again = client.apply(str(file))
    assert (again.created, again.changed, again.refused) == ([], {}, {})
    assert set(again.unchanged) == {*found.created, "environment and security"}


def test_what_differs_is_changed_and_nothing_else(client: Client, tmp_path: Path) -> None:
    profile = dict(read(PROFILE.encode())[0])
    client.apply(profile)
    versions = {task.name: task.version for task in Task.objects.all()}
    Party.objects.filter(name="alice").update(address="10.0.0.1", signing_keys="")
    Dataset.objects.filter(name="clients").update(description="not in the profile")
    found = client.apply(profile)
    assert (found.created, found.changed) == ([], {"parties.alice": ["address"]})
    assert Dataset.objects.get(name="clients").description == "not in the profile"
    assert versions == {task.name: task.version for task in Task.objects.all()}


def test_an_entry_that_is_refused_leaves_the_others(client: Client) -> None:
    profile = dict(read(PROFILE.encode())[0])
    profile["spus"] = {"semi2k": {"spu_config": {"runtime_config": {"protocol": "SEMI3K"}}}}
    found = client.apply(profile)
    assert set(found.refused) == {"spus.semi2k", "tasks.intersect"}
    assert "document.runtime_config.protocol" in [problem.path for problem in found.refused["spus.semi2k"].errors]
    assert {"parties.alice", "clusters.both"} <= set(found.created)
    assert Task.objects.count() == 0


def test_a_profile_of_another_environment_is_refused(client: Client) -> None:
    site = Site.current()
    site.environment = "prod"
    site.save()
    with pytest.raises(ControlPlaneError, match="for the environment 'test'; this is 'prod'"):
        client.apply(read(PROFILE.encode())[0])
    assert not Party.objects.exists()


@pytest.mark.parametrize("profile", [{"partys": {}}, {"parties": []}, {"tasks": {"x": 1}}, {"datasets": {"alice": 1}}])
def test_what_is_no_profile_is_refused_before_anything_is_written(client: Client, profile: dict[str, Any]) -> None:
    with pytest.raises(ControlPlaneError) as refused:
        client.apply({"environment": "new", **profile})
    assert refused.value.kind == "input"
    assert Site.current().environment == ""


ODD = "a: no\nb: 2026-01-01\nc: 1e-3\nd: 012\ne: 1_000\nf: ~\ng: yes\nh: 'é'\ni: {j: [1, 2.5, true]}\nk: .5\nl: 0x10\n"


@pytest.mark.parametrize("text", [ODD, PROFILE, "\ufeffa: 1", (ROOT / "config/prod.yaml").read_text()])
def test_a_file_means_the_same_as_to_manage_py(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(text)
    assert read_profile(path) == read(path.read_bytes())[0]


@pytest.mark.parametrize(
    "raw",
    [b"a: &x 1\nb: *x", b"a: !!python/name:os.system x", b"1: a", b"a: 1\na: 2", b"a: [", b"\xff", b"a: \x07",
     b"a: " + b"[" * 60 + b"]" * 60, b"a: 1\n--- \nb: 2", b"a: " + b"9" * 50, b"- a"],
)  # fmt: skip
def test_a_file_is_refused_as_by_manage_py(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "profile.yaml"
    path.write_bytes(raw)
    if raw != b"- a":
        with pytest.raises(ProfileInvalid):
            read(raw)
    with pytest.raises(ControlPlaneError) as refused:
        read_profile(path)
    assert refused.value.kind == "input"


def test_sfcp_tells_what_became_of_each_entry(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE.replace("uid: str, age: int", "uid: stri, age: int"))
    monkeypatch.setenv("SFCP_URL", client.url)
    monkeypatch.setenv("SFCP_TOKEN", client._headers["Authorization"].partition(" ")[2])
    monkeypatch.setattr(sys, "argv", ["sfcp", "apply", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert "created    parties.alice\n" in said.out
    assert "refused    datasets.alice.customers\n" in said.err
    assert "  columns: 'uid': the type should be one of int, float, str, bool." in said.err
