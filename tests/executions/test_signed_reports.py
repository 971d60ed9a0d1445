"""Whoever writes to Redis cannot make an execution succeed or fail: what a party says counts if the party signed it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from controlplane.environment import environment
from controlplane.models import Party
from executions.coordinator import dead_letters, key
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.enqueue import Enqueuer
from executions.coordinator.key import own_key
from executions.coordinator.listener import Listener
from executions.coordinator.recovery import Recovery
from executions.models import DeadLetter, Execution, PartyRun, Preflight
from executions.states import RunStatus, Status
from tests.composed import documents
from tests.keys import send, signed, stream, voice
from tests.simulated import add_worker, dispatch, job_of, publish_success, status, submit, take
from workers.contract.events import EVENT, PIECE, SIGNATURE
from workers.contract.jobs import ordered_job
from workers.contract.keys import ports_wanted, requests_of, stream_of
from workers.contract.orders import PORTS_WANTED, opened_order
from workers.contract.reports import REFUSAL
from workers.contract.signing import Signer, Verifier


@pytest.fixture(autouse=True)
def fresh_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters._Minute, "began", -1000.0)


def entries_of_a_success(execution: Execution, connection: Redis, tmp_path: Path, party: str = "alice") -> list[Any]:
    """What its worker writes; taken out of the stream."""
    publish_success(execution, party, connection, tmp_path)
    told: Any = connection.xrange(stream_of(party))
    connection.delete(stream_of(party))
    return [{name.decode(): value for name, value in fields.items()} for _, fields in told]


def replay(connection: Redis, entries: list[Any], party: str = "alice") -> None:
    for entry in entries:
        connection.xadd(stream_of(party), entry)
    Listener(connection).step()


def reasons() -> set[str]:
    return set(DeadLetter.objects.values_list("reason", flat=True))


def forged(entry: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return entry | {EVENT: json.dumps(json.loads(entry[EVENT]) | changes).encode()}


HOSTILE: dict[str, Any] = {
    "without a signature": (lambda e: {EVENT: e[EVENT]}, "it is not signed"),
    "with another's": (lambda e: signed("bob", {EVENT: e[EVENT]}), "it is signed with a key"),
    "altered": (lambda e: forged(e, status="FAILURE"), "its signature does not fit"),
    "of another attempt": (lambda e: forged(e, attempt=2), "its signature does not fit"),
    "as another kind": (lambda e: {PIECE: e[EVENT], SIGNATURE: e[SIGNATURE]}, "its signature does not fit"),
    "with a signature that is none": (lambda e: e | {SIGNATURE: b"\xff" * 300}, "it is signed with a key that cannot"),
}


@pytest.mark.parametrize(("change", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_what_the_party_did_not_write_changes_nothing(
    execution: Execution, connection: Redis, tmp_path: Path, change: Any, reason: str
) -> None:
    replay(connection, [change(entry) for entry in entries_of_a_success(execution, connection, tmp_path)])
    assert not execution.events.exists()
    assert execution.runs.get(party__name="alice").status == RunStatus.DISPATCHED
    assert any(told.startswith(reason) for told in reasons())
    assert not connection.xlen(stream_of("alice")), "it is not read again and again"


def test_what_another_party_signed_counts_for_it_alone(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    """bob, who has his own key, writes into alice's stream, or about alice into his own."""
    as_alice = [json.loads(entry[EVENT]) for entry in entries_of_a_success(execution, connection, tmp_path)]
    mine = [signed("bob", {EVENT: json.dumps(event)}) for event in as_alice]
    replay(connection, mine, "alice")
    replay(connection, mine, "bob")
    assert not execution.events.exists()
    assert "it names another party than its stream" in reasons()


def test_what_was_said_before_changes_nothing_when_it_is_said_again(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    entries = entries_of_a_success(execution, connection, tmp_path)
    replay(connection, entries)
    count = execution.events.count()
    Execution.objects.filter(pk=execution.pk).update(attempt=2)
    party = Party.objects.get(name="alice")
    run = PartyRun.objects.create(execution=execution, party=party, attempt=2, job_id="alice-again-2")
    replay(connection, entries)
    run.refresh_from_db()
    assert (execution.events.count(), run.status) == (count, RunStatus.DISPATCHED)


def test_without_a_registered_key_nothing_counts(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    entries = entries_of_a_success(execution, connection, tmp_path)
    Party.objects.filter(name="alice").update(signing_keys="")
    replay(connection, entries)
    assert not execution.events.exists()
    assert any("the keys that count are: none" in reason for reason in reasons())


def test_the_old_and_the_new_key_count_while_one_replaces_the_other(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    new = voice("alice, the new key").public_key
    Party.objects.filter(name="alice").update(signing_keys=f"{new} {voice('alice').public_key}")
    replay(connection, entries_of_a_success(execution, connection, tmp_path))
    assert execution.runs.get(party__name="alice").status == RunStatus.SUCCESS


def test_a_key_that_is_taken_away_counts_no_more_at_once(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    listener = Listener(connection)
    first, *rest = entries_of_a_success(execution, connection, tmp_path)
    connection.xadd(stream_of("alice"), first)
    listener.step()
    Party.objects.filter(name="alice").update(signing_keys=voice("alice, the new key").public_key)
    for entry in rest:
        connection.xadd(stream_of("alice"), entry)
    listener.step()
    assert execution.events.count() == 1


@pytest.mark.parametrize("kind", ["preflight", "datasets", "outputs", REFUSAL])
def test_reports_count_only_if_they_are_signed(parties: dict[str, Party], connection: Redis, kind: str) -> None:
    connection.xadd(stream_of("alice"), {kind: "{}"})
    listener = Listener(connection)
    listener.step()
    assert [(letter.kind, letter.reason) for letter in DeadLetter.objects.all()] == [
        (f"{kind} report"[:16], "it is not signed")
    ]


# --- what the coordinator signs


def test_jobs_are_signed_for_their_party(workers: None, connection: Redis) -> None:
    execution = submit()
    assert dispatch(Dispatcher(connection))
    for run in execution.runs.select_related("party"):
        signed_for = ordered_job(run.party.name, Verifier([own_key().public_key]))
        job = signed_for.fetch(run.job_id, connection=connection, serializer=job_of(connection, run).serializer)
        assert job.kwargs["sf_init_config"]["self_party"] == run.party.name
        assert job.order.id == run.job_id


def test_the_wish_for_ports_is_signed(workers: None, connection: Redis) -> None:
    for key_of_worker in connection.smembers("rq:workers:alice"):
        party = Party.objects.get(name="alice")
        connection.hset(key_of_worker, "ports", " ".join(map(str, range(party.port_first, party.port_last + 1))))
    submit()
    Dispatcher(connection).step()
    raw: Any = connection.get(ports_wanted("alice"))
    assert opened_order(Verifier([own_key().public_key]), PORTS_WANTED, "alice", raw)


def test_the_web_process_signs_nothing(workers: None, connection: Redis) -> None:
    Preflight.objects.ask(documents())
    assert not connection.exists(requests_of("alice"))


def test_a_job_that_a_worker_refused_is_tried_again_and_says_why(
    workers: None, connection: Redis, impatient: None
) -> None:
    execution = submit()
    dispatch(Dispatcher(connection))
    run = execution.runs.get(party__name="alice")
    connection.lrem("rq:queue:alice", 0, run.job_id)
    send(connection, "bob", refusal=json.dumps({"job": run.job_id, "reason": "not alice"}))
    Listener(connection).step()
    assert status(execution) == Status.DISPATCHED, "a party speaks for itself alone"
    stream(connection, "alice").report(REFUSAL, {"job": run.job_id, "reason": "it is not as it was signed"})
    Listener(connection).step()
    for _ in range(3):
        Recovery(connection).step()
    assert status(execution) == Status.RETRY
    assert (
        execution.changes.latest("pk").why.count("the worker of alice refused its job: it is not as it was signed") == 1
    ), execution.changes.latest("pk").why


def test_a_job_that_is_at_work_is_not_ended_by_a_refusal(workers: None, connection: Redis) -> None:
    execution = submit()
    dispatch(Dispatcher(connection))
    run = execution.runs.select_related("party").get(party__name="alice")
    take(connection, run, "alice-1")
    PartyRun.objects.filter(pk=run.pk).update(status=RunStatus.RUNNING)
    stream(connection, "alice").report(REFUSAL, {"job": run.job_id, "reason": "this host has taken it before"})
    Listener(connection).step()
    run.refresh_from_db()
    assert (run.stop_requested_at, run.error) == (None, "")


# --- parties that do not know the control plane, or that it does not know


@pytest.mark.parametrize(
    ("worker", "party", "reason"),
    [
        ({"follows": "0123456789abcdef"}, {}, "the worker of bob does not follow this control plane; add {own} to"),
        ({"follows": ""}, {}, "the worker of bob does not follow this control plane; add {own} to the keys of"),
        ({"signs_with": "0123456789abcdef"}, {}, "the worker of bob signs with another key than those on the party's"),
        ({"signs_with": b"\xff"}, {}, "the worker of bob signs with another key than those on the party's page"),
        (
            {},
            {"signing_keys": ""},
            "bob has no signing key here; enter what `manage.py party keys` prints on bob",
        ),
    ],
)
def test_an_execution_waits_with_the_remedy_until_they_know_each_other(
    workers: None, connection: Redis, worker: dict[str, Any], party: dict[str, Any], reason: str
) -> None:
    if worker:
        connection.hset("rq:worker:bob-1", mapping=worker)
    Party.objects.filter(name="bob").update(**party)
    execution, dispatcher = submit(), Dispatcher(connection)
    assert not dispatch(dispatcher)
    assert status(execution) == Status.QUEUED
    assert execution.waiting_for.startswith(reason.format(own=own_key().public_key))
    Party.objects.filter(name="bob").update(signing_keys=voice("bob").public_key)
    add_worker(connection, "bob")
    assert dispatch(dispatcher)
    assert status(execution) == Status.DISPATCHED


def test_one_worker_that_follows_is_enough(workers: None, connection: Redis) -> None:
    connection.hset(add_worker(connection, "bob", "2"), "follows", "")
    execution = submit()
    assert dispatch(Dispatcher(connection))
    assert status(execution) == Status.DISPATCHED


# --- the coordinator's key


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state" / "signing_key"
    monkeypatch.setattr(environment, "signing_key", path)
    monkeypatch.setattr(key, "own_key", key.own_key.__wrapped__)
    monkeypatch.setattr("executions.management.commands.signing_key.own_key", key.own_key)
    monkeypatch.setattr("executions.management.commands.coordinate.own_key", key.own_key)
    return path


def test_the_command_makes_the_key_once_and_prints_its_public_half(
    key_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call_command("signing_key")
    call_command("signing_key")
    first, again = capsys.readouterr().out.split()
    assert first == again == Signer.load(key_file).public_key
    call_command("signing_key", "--make", str(tmp_path / "next"))
    assert capsys.readouterr().out.strip() == Signer.load(tmp_path / "next").public_key != first
    with pytest.raises(CommandError, match="exists; name a new file"):
        call_command("signing_key", "--make", str(tmp_path / "next"))
    with pytest.raises(CommandError, match="cannot be written: No such file or directory"):
        call_command("signing_key", "--make", str(tmp_path / "no" / "next"))


@pytest.mark.parametrize("command", ["signing_key", "coordinate"])
def test_a_key_that_cannot_be_used_is_told_at_once(key_file: Path, command: str) -> None:
    key_file.parent.mkdir()
    key_file.write_text("no key")
    key_file.chmod(0o600)
    with pytest.raises(CommandError, match=r"\(CONTROLPLANE_SIGNING_KEY\) cannot be used: "):
        call_command(command)
    Signer.create(key_file.with_name("other"))
    key_file.unlink()
    key_file.with_name("other").rename(key_file)
    key_file.chmod(0o644)
    with pytest.raises(CommandError, match="run chmod 600 on it"):
        call_command(command)


def test_a_key_that_is_lost_while_it_runs_keeps_executions_waiting(
    workers: None, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> Signer:
        raise key.NoKey("the key is gone")

    execution, dispatcher = submit(), Dispatcher(connection)
    dispatcher.step()
    with monkeypatch.context() as patch:
        patch.setattr("executions.coordinator.enqueue.own_key", lost)
        dispatch(dispatcher)
        assert status(execution) == Status.DISPATCHED
        assert "the key is gone" in execution.waiting_for
    assert Enqueuer(connection).missing()
    assert connection.lrange("rq:queue:alice", 0, -1)
