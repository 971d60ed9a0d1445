"""Pre-flight checks as the control plane sees them: asked for, waited for, judged. The hosts are simulated."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from redis import Redis
from redis.exceptions import ConnectionError, RedisError
from rest_framework.test import APIClient

from controlplane.models import Dataset, Party
from executions.coordinator import preflight as preflights
from executions.coordinator.dispatch import CHECKING, Dispatcher
from executions.coordinator.key import own_key
from executions.coordinator.listener import Listener
from executions.coordinator.loop import Coordinator
from executions.coordinator.preflight import request, send_asked
from executions.models import Execution, PartyCheck, PartyRun, PortLease, Preflight
from executions.states import Status
from tests.composed import admin_as, api_as, documents, make_task
from tests.keys import send, stream
from tests.simulated import add_worker, down, status, submit
from workers.contract.keys import ports_wanted, requests_of
from workers.contract.orders import PREFLIGHT, opened_order
from workers.contract.signing import Verifier

GOOD = {"checks": [{"check": "ports"}, {"check": "data"}], "facts": {"versions": {"secretflow": "1.14", "spu": "0.9"}}}


def failing(check: str, error: str, error_type: str = "ConfigError") -> dict[str, Any]:
    return {"checks": [{"check": "ports"}, {"check": check, "error": error, "error_type": error_type}], "facts": {}}


@pytest.fixture
def dispatcher(workers: None, connection: Redis) -> Dispatcher:
    return Dispatcher(connection)


@pytest.fixture
def answer(connection: Redis) -> Callable[..., None]:
    """Give parties' answers to the newest checks, by their streams, and have the coordinator read them."""
    listener = Listener(connection)

    def give(**answers: dict[str, Any]) -> None:
        send_asked(connection)
        preflight = Preflight.objects.latest("requested_at")
        for party, content in answers.items():
            stream(connection, party).report(
                "preflight", {"preflight": str(preflight.pk), "worker": f"{party}-1", **content}
            )
        listener.step()

    return give


def test_it_asks_every_party_with_the_documents_it_would_be_sent(dispatcher: Dispatcher, connection: Redis) -> None:
    execution = submit()
    assert not dispatcher.step()
    assert status(execution) == Status.QUEUED
    assert execution.waiting_for == CHECKING
    preflight = Preflight.objects.get()
    for party in ("alice", "bob"):
        [raw] = connection.lrange(f"preflight:{party}", 0, -1)
        order = opened_order(Verifier([own_key().public_key]), PREFLIGHT, party, raw)
        request = order.content
        assert order.id == str(preflight.pk)
        assert request["columns"] == Dataset.objects.get(party__name=party).columns
        config = request["documents"]["sf_init_config"]
        assert config["self_party"] == party
        ports = PartyCheck.objects.get(party__name=party).ports
        assert config["cluster"][party]["address"] == f"127.0.0.1:{ports[0]}"
        assert request["documents"]["spu_config"]["nodes"][party == "bob"]["address"] == f"127.0.0.1:{ports[1]}"
        assert 0 < connection.ttl(f"preflight:{party}") <= 30, "what nobody takes does not stay"


def test_an_answer_that_redis_lost_costs_no_try(workers: None, connection: Redis) -> None:
    execution = submit(resource_retries=0)
    coordinator = Coordinator()
    coordinator.dispatcher.step()
    coordinator.without_redis(ConnectionError())
    PartyCheck.objects.update(heard_at=timezone.now() - timedelta(minutes=1))
    coordinator.dispatcher.step()
    assert (status(execution), execution.preflights.count()) == (Status.QUEUED, 2)
    PartyCheck.objects.update(heard_at=timezone.now() - timedelta(minutes=1))
    coordinator.dispatcher.step()
    assert status(execution) == Status.FAILURE, "since then nothing kept the answer"


def test_it_dispatches_on_the_checked_ports_when_all_passed(dispatcher: Dispatcher, answer: Any) -> None:
    execution = submit()
    dispatcher.step()
    answer(alice=GOOD)
    assert not dispatcher.step(), "bob has not answered"
    answer(bob=GOOD)
    assert dispatcher.step()
    assert status(execution) == Status.DISPATCHED
    checked = dict(PartyCheck.objects.values_list("party__name", "ports"))
    assert dict(PartyRun.objects.values_list("party__name", "ports")) == checked
    assert set(PortLease.objects.values_list("port", flat=True)) == {p for ports in checked.values() for p in ports}


def test_it_asks_once_while_it_waits_and_keeps_the_workers_for_it(dispatcher: Dispatcher) -> None:
    first, second = submit(), submit()
    for _ in range(3):
        dispatcher.step()
    assert Preflight.objects.get().execution == first
    second.refresh_from_db()
    assert "importing" in second.waiting_for or "busy" in second.waiting_for, second.waiting_for


def test_a_failed_check_ends_it_before_anyone_starts(dispatcher: Dispatcher, answer: Any, connection: Redis) -> None:
    execution = submit()
    dispatcher.step()
    answer(alice=failing("peers", "bob did not come", "NetworkError"))
    assert not dispatcher.step()
    two = failing("data", "2 rows twice; remove them")
    two["checks"].append({"check": "disk", "error": "the disk is full", "error_type": "ResourceError"})
    answer(bob=two)
    dispatcher.step()
    execution.refresh_from_db()
    assert (execution.status, execution.attempt) == (Status.FAILURE, 0)
    assert (execution.error_party, execution.error_type, execution.error_stage) == ("bob", "ConfigError", "preflight")
    assert execution.error == "2 rows twice; remove them (1 more: see the pre-flight checks)"
    assert not PartyRun.objects.exists()
    assert connection.llen("rq:queue:alice") == 0


def test_what_may_pass_is_checked_again_a_few_times(dispatcher: Dispatcher, answer: Any) -> None:
    execution = submit(network_retries=1)
    dispatcher.step()
    answer(alice=failing("peers", "bob did not come", "NetworkError"), bob=GOOD)
    dispatcher.step()
    assert status(execution) == Status.RETRY
    assert execution.changes.last().why == "NetworkError at alice: bob did not come; retry 1 of 1"
    Execution.objects.update(status=Status.QUEUED, queued_at=timezone.now())  # the retry is due
    dispatcher.step()
    assert Preflight.objects.count() == 2
    answer(alice=failing("peers", "bob did not come", "NetworkError"), bob=GOOD)
    dispatcher.step()
    assert status(execution) == Status.FAILURE


def test_parties_with_different_versions_do_not_start(dispatcher: Dispatcher, answer: Any) -> None:
    execution = submit()
    dispatcher.step()
    other = {"checks": [], "facts": {"versions": {"secretflow": "1.13", "spu": "0.9"}}}
    answer(alice=GOOD, bob=other)
    dispatcher.step()
    assert status(execution) == Status.FAILURE
    assert "different versions of secretflow: 1.14 at alice, 1.13 at bob; install the same" in execution.error


def test_parties_whose_rows_do_not_line_up_do_not_start(dispatcher: Dispatcher, answer: Any) -> None:
    execution = submit()
    dispatcher.step()

    def has(rows: int) -> dict[str, Any]:
        return {"checks": [], "facts": {"rows_line_up": True, "dataset": {"name": "x", "rows": rows}}}

    answer(alice=has(2000), bob=has(1500))
    dispatcher.step()
    assert (status(execution), execution.error_stage) == (Status.FAILURE, "preflight")
    assert execution.error.startswith("the parties' rows do not line up: alice has 2000, bob has 1500; run a PSI")


@pytest.mark.parametrize(
    ("alice", "bob", "said"),
    [
        (None, None, "nothing says that the rows of alice and bob line up: the order of alice and bob's tables is"),
        ("e1-1", None, "the order of bob's table is unknown; run a PSI"),
        ("e1-1", "e2-1", "alice's is that of execution e1-1, bob's is that of execution e2-1"),
        ("declared:x", "e2-1", "alice's is declared in its party.toml (x), bob's is that of execution e2-1"),
    ],
)
def test_parties_whose_tables_have_unlike_orders_do_not_start(
    dispatcher: Dispatcher, answer: Any, alice: str | None, bob: str | None, said: str
) -> None:
    execution = submit()
    dispatcher.step()
    alice_, bob_ = ({"checks": [], "facts": {"rows_line_up": True, "alignment": told}} for told in (alice, bob))
    answer(alice=alice_, bob=bob_)
    dispatcher.step()
    assert (status(execution), execution.error_stage) == (Status.FAILURE, "preflight")
    assert said in execution.error


@pytest.mark.parametrize("other", [{}, {"alignment": None}, {"rows_line_up": False, "alignment": "e2-1"}])
def test_a_party_whose_rows_need_not_line_up_is_not_compared(
    dispatcher: Dispatcher, answer: Any, other: dict[str, Any]
) -> None:
    execution = submit()
    dispatcher.step()
    answer(
        alice={"checks": [], "facts": {"rows_line_up": True, "alignment": "e1-1"}}, bob={"checks": [], "facts": other}
    )
    dispatcher.step()
    assert status(execution) == Status.DISPATCHED


def test_nobody_waits_for_checks_that_are_not_wanted_any_more(
    dispatcher: Dispatcher, answer: Any, connection: Redis, django_capture_on_commit_callbacks: Any
) -> None:
    cancelled = submit()
    dispatcher.step()
    key = f"preflight:wanted:{Preflight.objects.get().pk}"
    assert 10 < connection.ttl(key) <= 20
    with django_capture_on_commit_callbacks(execute=True):
        cancelled.cancel()
    assert not connection.exists(key)
    submit()
    dispatcher.step()
    key = f"preflight:wanted:{Preflight.objects.latest('requested_at').pk}"
    answer(alice=failing("peers", "bob did not come", "NetworkError"))
    assert connection.exists(key), "bob may have better to say"
    answer(bob=failing("dataset", "it is gone"))
    assert not connection.exists(key)


def test_who_says_nothing_is_not_waited_for(dispatcher: Dispatcher, answer: Any) -> None:
    execution = submit(resource_retries=0)
    dispatcher.step()
    answer(alice=GOOD)
    past = timezone.now() - timedelta(seconds=11)
    PartyCheck.objects.filter(party__name="bob").update(heard_at=past)
    answer(bob={})  # a sign of life
    dispatcher.step()
    assert status(execution) == Status.QUEUED, "it is still at it"
    PartyCheck.objects.filter(party__name="bob").update(heard_at=past)
    dispatcher.step()
    assert (status(execution), execution.error_party) == (Status.FAILURE, "bob")
    assert "no worker of bob answered the pre-flight checks" in execution.error


def test_it_is_checked_again_where_all_answers_are_old(dispatcher: Dispatcher, answer: Any) -> None:
    submit()
    dispatcher.step()
    answer(alice=GOOD, bob=GOOD)
    PartyCheck.objects.update(answered_at=timezone.now() - timedelta(seconds=31))
    assert not dispatcher.step()
    assert Preflight.objects.count() == 2


def test_the_answers_of_the_quick_hold_as_long_as_the_slow_one_takes(dispatcher: Dispatcher, answer: Any) -> None:
    """bob's table takes minutes, each time: his own sign of life keeps the round going, and the others' words too."""
    execution = submit()
    dispatcher.step()
    answer(alice=GOOD)
    for _ in range(3):
        long_ago = timezone.now() - timedelta(minutes=2)
        PartyCheck.objects.filter(party__name="alice").update(heard_at=long_ago, answered_at=long_ago)
        Preflight.objects.update(requested_at=long_ago)
        Execution.objects.update(queued_at=long_ago)
        answer(bob={})  # a sign of life
        assert not dispatcher.step()
    answer(bob=GOOD)
    assert dispatcher.step()
    assert (status(execution), Preflight.objects.count()) == (Status.DISPATCHED, 1)


def test_the_ports_of_a_long_check_are_left_to_it(
    dispatcher: Dispatcher, answer: Any, parties: dict[str, Party], connection: Redis
) -> None:
    alice = parties["alice"]
    alice.port_last = alice.port_first + 3
    alice.save()
    submit()
    dispatcher.step()
    answer(alice=GOOD)
    long_ago = timezone.now() - timedelta(minutes=2)
    PartyCheck.objects.filter(party=alice).update(heard_at=long_ago, answered_at=long_ago)
    Preflight.objects.update(requested_at=long_ago)
    answer(bob={})  # a sign of life
    looked_at = PartyCheck.objects.get(party=alice).ports
    for _ in range(5):
        other = request(connection, submit())
        assert set(other.checks.get(party=alice).ports).isdisjoint(looked_at)
        other.delete()


def test_it_is_checked_again_where_its_ports_were_taken_meanwhile(dispatcher: Dispatcher, answer: Any) -> None:
    execution = submit()
    dispatcher.step()
    answer(alice=GOOD, bob=GOOD)
    check = PartyCheck.objects.get(party__name="bob")
    other = Execution.objects.create(task_type="psi", status=Status.SUCCESS)
    run = PartyRun.objects.create(execution=other, party=check.party, attempt=1, job_id="x", released_at=timezone.now())
    PortLease.objects.create(party=check.party, port=check.ports[0], run=run)
    assert not dispatcher.step()
    assert (status(execution), Preflight.objects.count()) == (Status.QUEUED, 2)
    assert check.ports[0] not in PartyCheck.objects.filter(party__name="bob").latest("pk").ports


def test_it_leaves_the_ports_of_live_sessions_alone_and_asks_for_them_where_there_are_no_others(
    dispatcher: Dispatcher, parties: dict[str, Party], connection: Redis
) -> None:
    alice = parties["alice"]
    worker = add_worker(connection, "alice")
    ports = list(range(alice.port_first, alice.port_last + 1))
    connection.hset(worker, "ports", " ".join(map(str, ports[2:])))
    execution = submit()
    dispatcher.step()
    assert set(PartyCheck.objects.get(party=alice).ports) == set(ports[:2])
    Preflight.objects.all().delete()
    for held in (" ".join(map(str, ports[1:])), f"x 1 {' '.join(map(str, ports[1:]))} 999999999999 \xff"):
        connection.hset(worker, "ports", held)
        connection.delete(ports_wanted("alice"))
        dispatcher.step()
        execution.refresh_from_db()
        assert (
            execution.waiting_for
            == "live sessions hold the ports of alice that nobody has leased; they are being ended"
        )
        assert connection.exists(ports_wanted("alice"))
        assert not connection.exists(ports_wanted("bob"))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"{", b'{"preflight": "x"}', b'{"preflight": 1, "checks": {}}', b"[" * 5000,
        b'{"preflight": "ID", "checks": [{"check": "a", "error": 3}]}',
        b'{"preflight": "ID", "checks": [], "facts": ' + b'{"a":' * 50 + b"1" + b"}" * 51,
        b'{"preflight": "ID", "checks": [], "facts": {"a": 1e999}}',
        b'{"preflight": "ID", "checks": [], "facts": "' + b"x" * 2**20 + b'"}',
    ],
)  # fmt: skip
def test_malformed_reports_change_nothing(dispatcher: Dispatcher, connection: Redis, raw: bytes) -> None:
    submit()
    dispatcher.step()
    raw = raw.replace(b"ID", str(Preflight.objects.get().pk).encode())
    send(connection, "alice", preflight=raw)
    send(connection, "alice", datasets=raw)
    Listener(connection).step()
    assert not PartyCheck.objects.exclude(answered_at=None).exists()
    assert Dataset.objects.filter(reported_at=None).count() == 2


def test_a_report_counts_for_the_party_it_came_from_and_once(
    dispatcher: Dispatcher, connection: Redis, answer: Any
) -> None:
    submit()
    dispatcher.step()
    answer(alice=GOOD | {"facts": {"said": "first\0"}})
    answer(alice=failing("data", "no") | {"party": "bob"})
    parts = {part.party.name: part for part in PartyCheck.objects.select_related("party")}
    assert (parts["alice"].facts, parts["bob"].answered_at) == ({"said": "first"}, None)
    assert [r["error"] for r in parts["alice"].results] == ["", ""]


@pytest.mark.parametrize("columns", [{"uid": "str", "age": "str"}, None])
def test_the_checks_keep_the_drift_of_a_dataset(dispatcher: Dispatcher, answer: Any, columns: Any) -> None:
    submit()
    dispatcher.step()
    found = failing("dataset", "the file is missing")
    found["facts"] = {"dataset": {"name": "customers"} | ({"columns": columns, "rows": 7} if columns else {})}
    answer(alice=found, bob=GOOD | {"facts": {"dataset": {"name": "clients", "columns": ["no", "schema"]}}})
    customers, clients = (Dataset.objects.get(name=name) for name in ("customers", "clients"))
    gone = ["column 'age' is str, not int", "column 'income' is gone"]
    assert customers.drift == (gone if columns else ["the file is missing"])
    assert customers.reported_rows == (7 if columns else None)
    assert customers.differs == bool(columns)
    assert clients.reported_at is None
    assert PartyCheck.objects.exclude(answered_at=None).count() == 2, "both answers count"


def test_an_unknown_class_of_error_is_one_of_the_computation(dispatcher: Dispatcher, answer: Any) -> None:
    execution = submit()
    dispatcher.step()
    answer(alice=failing("data", "strange", "OSError"), bob=GOOD)
    dispatcher.step()
    execution.refresh_from_db()
    assert (execution.status, execution.error_type) == (Status.FAILURE, "AlgorithmError")


# --- on demand


@pytest.fixture
def service(workers: None) -> APIClient:
    return api_as("service", "add_execution", "view_execution")


def test_a_service_has_documents_checked(service: APIClient, answer: Any, django_assert_num_queries: Any) -> None:
    asked = service.post("/api/v1/preflights/", documents() | {"name": "looking"}, format="json")
    assert asked.status_code == 201, asked.json()
    url = asked.headers["Location"]
    assert asked.json()["state"] == "checking"
    answer(alice=GOOD, bob=failing("dataset", "column 'age' is gone"))
    with django_assert_num_queries(3):  # one for the parties that the caller works for
        found = service.get(url).json()
    assert (found["state"], found["name"], found["execution"]) == ("failed", "looking", None)
    problem = {"party": "bob", "check": "dataset", "error": "column 'age' is gone", "error_type": "ConfigError"}
    assert found["problems"][0] == problem
    assert [p["party"] for p in found["parties"]] == ["alice", "bob"]
    assert not Execution.objects.exists()
    assert Preflight.objects.get().documents is None, "they are kept no longer than they are needed"


def test_a_service_is_told_what_is_wrong_before_anyone_is_asked(service: APIClient, connection: Redis) -> None:
    body = documents() | {"spu_config": {"runtime_config": {"protocol": "ABY3"}}}
    refused = service.post("/api/v1/preflights/", body, format="json")
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["path"] == "spu_config.runtime_config.protocol"
    Party.objects.filter(name="bob").update(port_last=20100)
    asked = service.post("/api/v1/preflights/", documents(), format="json").json()
    assert send_asked(connection)
    found = service.get(asked["url"]).json()
    assert found["state"] == "failed"
    assert [part["answered_at"] for part in found["parties"]] == [None, None]  # asked for, and not sent
    assert [problem["error"] for problem in found["problems"]] == ["all ports of bob (20100-20100) are leased"]
    assert not connection.exists(requests_of("alice"))


def test_checks_that_nobody_could_ask_for_yet_say_so_and_are_asked_for_later(
    service: APIClient, connection: Redis
) -> None:
    url = service.post("/api/v1/preflights/", documents(), format="json").json()["url"]
    with pytest.raises(RedisError):
        send_asked(down())
    assert service.get(url).json()["state"] == "checking"
    Preflight.objects.update(requested_at=timezone.now() - Preflight.SILENCE - timedelta(seconds=1))
    found = service.get(url).json()
    assert found["state"] == "failed"
    assert [part["answered_at"] for part in found["parties"]] == [None, None]  # asked for, and not sent
    assert "is `manage.py coordinate` running" in found["problems"][0]["error"]
    assert send_asked(connection)
    assert not send_asked(connection), "once"
    found = service.get(url).json()
    assert (found["state"], [part["party"] for part in found["parties"]]) == ("checking", ["alice", "bob"])


def test_the_checks_of_one_that_cannot_be_asked_for_keep_no_other(
    service: APIClient, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = (service.post("/api/v1/preflights/", documents(), format="json").json()["url"] for _ in range(2))
    choose = preflights._Places.choose
    first: list[Any] = []

    def fails_once(*args: Any) -> Any:
        if not first:
            first.append(args)
            raise ValueError("nobody thought of this")
        return choose(*args)

    monkeypatch.setattr(preflights._Places, "choose", fails_once)
    send_asked(connection)
    assert "nobody thought of this" in service.get(bad).json()["problems"][0]["error"]
    assert len(service.get(good).json()["parties"]) == 2


def test_it_takes_the_permission_to_run(workers: None) -> None:
    client = api_as("viewer", "view_execution")
    assert client.post("/api/v1/preflights/", documents(), format="json").status_code == 403


def test_an_operator_has_a_task_checked_on_its_dry_run(workers: None, answer: Any) -> None:
    client = admin_as("operator", "view_task", "add_execution")
    url = f"/admin/controlplane/task/{make_task().pk}/dry-run/"
    assert "Check now" in client.get(url).content.decode()
    there = client.post(url).headers["Location"]
    page = client.get(there).content.decode()
    assert "data-live" in page
    assert "data-ended" not in page
    answer(alice=GOOD, bob=failing("memory", "memory is short on this host", "ResourceError"))
    part = client.get(there + "&fragment=1")
    assert part.headers["X-Fragment"] == "1"
    assert "data-ended" in part.content.decode()
    assert "memory is short on this host" in part.content.decode()
    assert client.get(url + "?checks=nonsense").status_code == 200


def test_the_page_of_an_execution_shows_its_checks(dispatcher: Dispatcher, answer: Any) -> None:
    execution = submit()
    dispatcher.step()
    answer(alice=GOOD, bob=failing("data", "<b>two</b> rows"))
    dispatcher.step()
    client = admin_as("operator", "view_execution")
    page = client.get(f"/admin/executions/execution/{execution.pk}/change/").content.decode()
    assert "Pre-flight checks at the parties" in page
    assert "&lt;b&gt;two&lt;/b&gt; rows" in page
