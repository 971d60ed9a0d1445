"""/metrics: its figures are those of the database and Redis, whichever process is asked, and whatever is odd there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.db import connection as database
from django.db.utils import OperationalError
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from redis.exceptions import RedisError
from rest_framework.test import APIClient

from controlplane.models import Dataset, Party
from executions.coordinator import dead_letters, totals
from executions.coordinator.dead_letters import set_aside
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.listener import Listener
from executions.coordinator.loop import Coordinator
from executions.coordinator.pruning import Pruning
from executions.coordinator.settle import settle
from executions.metrics import collector, rows
from executions.metrics.names import METRICS
from executions.models import Beat, Execution, PartyCheck, PartyRun, Preflight, Total
from executions.models.total import LINK, Tally
from executions.states import RunStatus, Status, transition
from tests.composed import api_as, make_user, token_client
from tests.simulated import add_worker, begin, dispatch, down, finish, publish_success, submit
from workers.contract.keys import stream_of

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def figures(api: APIClient) -> Figures:
    """Return all samples by name and labels, as Prometheus reads them."""
    response = api.get("/metrics")
    assert response.status_code == 200, response.content
    families = text_string_to_metric_families(response.content.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def of(found: Figures, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


def run_to_success(connection: Redis, tmp_path: Path) -> Execution:
    execution = submit()
    dispatch(Dispatcher(connection))
    for party in ("alice", "bob"):
        publish_success(execution, party, connection, tmp_path / party)
    listener = Listener(connection)
    while listener.step():
        pass
    execution.refresh_from_db()
    assert execution.status == Status.SUCCESS
    return execution


# --- what is counted


def test_an_execution_that_ends_is_counted_with_its_seconds_and_stages(
    api: APIClient, workers: None, connection: Redis, tmp_path: Path
) -> None:
    before = figures(api)
    assert of(before, "secretflow_executions_ended_total", task_type="psi", status="SUCCESS") == 0
    run_to_success(connection, tmp_path)
    found = figures(api)
    assert of(found, "secretflow_executions_ended_total", task_type="psi", status="SUCCESS") == 1
    ended = {"task_type": "psi", "status": "SUCCESS"}
    assert of(found, "secretflow_execution_duration_seconds_count", **ended) == 1
    assert of(found, "secretflow_execution_duration_seconds_bucket", **ended, le="+Inf") == 1
    assert of(found, "secretflow_execution_wait_seconds_count", task_type="psi") == 1
    stages = {dict(labels)["stage"] for name, labels in found if name == "secretflow_stage_duration_seconds_count"}
    assert stages == {"task_started", "devices_ready", "task_execution"}
    of_both = of(found, "secretflow_stage_duration_seconds_count", task_type="psi", stage="task_execution")
    assert of_both == 2


def test_the_seconds_of_a_stage_are_those_of_the_party_s_clock_and_devices_have_their_own(
    api: APIClient, execution: Execution
) -> None:
    # A clock that is a day ahead: only its differences count
    start = timezone.now() + timedelta(days=1)
    times = {"task_started": 0.0, "sf_init": 0.2, "sf_cluster_ready": 3.2, "spu_init": 3.3, "devices_ready": 7.3}
    for sequence, (stage, seconds) in enumerate((times | {"task_execution": 7.4}).items(), 1):
        execution.events.create(
            party="alice", attempt=1, sequence=sequence, status="RUNNING", stage=stage,
            timestamp=start + timedelta(seconds=seconds),
        )  # fmt: skip
    # bob's clock was set in the middle: what cannot be is left out
    for sequence, (stage, seconds) in enumerate({"sf_init": 0.0, "spu_init": 90_000.0}.items(), 1):
        execution.events.create(
            party="bob", attempt=1, sequence=sequence, status="RUNNING", stage=stage,
            timestamp=start + timedelta(seconds=seconds),
        )  # fmt: skip
    execution.runs.update(execution_seconds=19.4)
    finish(execution)
    found = figures(api)
    took = {
        stage: of(found, "secretflow_stage_duration_seconds_sum", task_type="psi", stage=stage)
        for stage in ("task_started", "sf_init", "spu_init", "task_execution")
    }
    assert took == pytest.approx({"task_started": 0.2, "sf_init": 3, "spu_init": 4, "task_execution": 12})
    assert of(found, "secretflow_device_init_seconds_bucket", device="spu", le="2.5") == 0
    assert of(found, "secretflow_device_init_seconds_bucket", device="spu", le="5") == 1


def test_a_failed_attempt_is_counted_by_class_and_stage_and_a_broken_link_by_party(
    api: APIClient, execution: Execution
) -> None:
    now = timezone.now()
    run = {"released_at": now, "ended_at": now, "started_at": now, "error": "the link broke", "stage": "spu_init"}
    execution.runs.filter(party__name="alice").update(status=RunStatus.FAILURE, error_type="NetworkError", **run)
    echo = run | {"caused_by_peer": True}
    execution.runs.filter(party__name="bob").update(status=RunStatus.FAILURE, error_type="NetworkError", **echo)
    settle(execution.pk)
    assert Execution.objects.get().status == Status.RETRY
    found = figures(api)
    assert of(found, "secretflow_attempts_failed_total", error_type="NetworkError", stage="spu_init") == 1
    assert of(found, "secretflow_link_errors_total", party="alice") == 1
    assert of(found, "secretflow_link_errors_total", party="bob") == 0
    assert of(found, "secretflow_executions_ended_total", task_type="psi", status="FAILURE") == 0


def test_words_of_a_party_make_no_series(api: APIClient, execution: Execution) -> None:
    now = timezone.now()
    execution.runs.update(
        status=RunStatus.FAILURE, ended_at=now, started_at=now, error="x", error_type="Odd", stage="made up"
    )
    settle(execution.pk)
    found = figures(api)
    assert of(found, "secretflow_attempts_failed_total", error_type="other", stage="other") == 1
    assert not any("made up" in str(labels) for _, labels in found)


def test_one_that_never_began_has_no_stages_and_waited_for_nothing(api: APIClient, parties: Any) -> None:
    execution = submit()
    Execution.objects.update(created_at=timezone.now() + timedelta(hours=1))  # another host's clock is ahead
    execution.refresh_from_db()
    execution.cancel()
    found = figures(api)
    assert of(found, "secretflow_executions_ended_total", task_type="psi", status="CANCELLED") == 1
    assert of(found, "secretflow_execution_duration_seconds_sum", task_type="psi", status="CANCELLED") == 0
    assert of(found, "secretflow_execution_wait_seconds_count", task_type="psi") is None


def test_nobody_counts_an_end_that_did_not_happen(api: APIClient, execution: Execution) -> None:
    stale = Execution.objects.get(pk=execution.pk)
    Execution.objects.filter(pk=execution.pk).update(attempt=2)
    assert not transition(stale, Status.FAILURE, error_type="ConfigError", error_stage="dispatch")
    assert not Total.objects.exists()


def test_removing_old_executions_lets_no_counter_fall(
    api: APIClient, workers: None, connection: Redis, tmp_path: Path
) -> None:
    run_to_success(connection, tmp_path)
    before = {key: value for key, value in figures(api).items() if key[0].endswith(("_total", "_count", "_bucket"))}
    Execution.objects.update(
        ended_at=timezone.now() - timedelta(days=4000), created_at=timezone.now() - timedelta(4001)
    )
    pruning = Pruning()
    while pruning.step(1.0):
        pass
    assert not Execution.objects.exists()
    after = figures(api)
    assert {key: after.get(key) for key in before} == before


def test_many_rows_become_their_sum_and_all_figures_stay(api: APIClient, parties: Any) -> None:
    for number in range(totals.ENOUGH // 2 + 2):
        for party in ("alice", "bob"):
            tally = Tally()
            tally.add(LINK, party)
            tally.add("duration", "psi", "SUCCESS", seconds=number / 10)
            tally.write()
    before = {key: value for key, value in figures(api).items() if key[0] != "secretflow_scrape_seconds"}
    assert totals.merge()
    assert Total.objects.count() < 20
    after = {key: value for key, value in figures(api).items() if key[0] != "secretflow_scrape_seconds"}
    assert after == pytest.approx(before)
    assert not totals.merge()


def test_rows_are_replaced_however_many_kinds_there_are(parties: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "MOST", 10)
    monkeypatch.setattr(totals, "ENOUGH", 5)
    for number in range(60):  # the oldest are of kinds that come once
        tally = Tally()
        tally.add(LINK, f"party-{min(number, 30)}")
        tally.write()
    while totals.merge():
        pass
    assert Total.objects.count() == 31
    assert sum(total.number for total in Total.objects.all()) == 60


def test_coordinators_that_sum_up_at_once_lose_nothing(transactional_db: None, connection: Redis) -> None:
    def work() -> None:
        try:
            for _ in range(20):
                tally = Tally()
                tally.add(LINK, "alice")
                tally.write()
                totals.merge()
        finally:
            database.close()

    with patch.object(totals, "ENOUGH", 2), ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work) for _ in range(3)]:
            done.result(timeout=60)
    [one] = rows.totals()[LINK]
    assert (one.labels, one.number) == (("alice",), 60)


def test_dead_letters_are_counted_and_a_deleted_party_s_are_gone(
    api: APIClient, parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST_A_MINUTE", 10**6)  # other tests of this minute have sent a flood
    set_aside("alice", "event", b"x", "it is no JSON")
    set_aside("carol", "event", b"x", "it is no JSON")
    found = figures(api)
    assert of(found, "secretflow_dead_letters_total", party="alice") == 1
    assert of(found, "secretflow_dead_letters_total", party="bob") == 0
    assert of(found, "secretflow_dead_letters_total", party="carol") is None
    Dataset.objects.all().delete()
    Party.objects.filter(name="alice").delete()
    assert not any(("party", "alice") in labels for _, labels in figures(api))


# --- what is so now


def test_an_empty_site_has_figures(api: APIClient, connection: Redis) -> None:
    found = figures(api)
    assert of(found, "secretflow_executions", status="QUEUED") == 0
    assert of(found, "secretflow_executions_oldest_seconds", status="QUEUED") == 0
    assert of(found, "secretflow_coordinators") == 0
    assert of(found, "secretflow_coordinator_idle_seconds") is None
    assert of(found, "secretflow_redis_up") == 1


def test_what_waits_and_runs_is_told_by_status_and_party(
    api: APIClient, connection: Redis, execution: Execution
) -> None:
    add_worker(connection, "alice", "2")
    begin(execution, connection)
    for ago in (50, 500):
        waiting = submit()
        Execution.objects.filter(pk=waiting.pk).update(queued_at=timezone.now() - timedelta(seconds=ago))
    found = figures(api)
    assert of(found, "secretflow_executions", status="QUEUED") == 2
    assert of(found, "secretflow_executions", status="RUNNING") == 1
    assert of(found, "secretflow_executions_oldest_seconds", status="QUEUED") == pytest.approx(500, abs=5)
    assert of(found, "secretflow_party_queue_depth", party="alice") == 2
    assert of(found, "secretflow_party_runs", party="bob") == 1
    assert of(found, "secretflow_workers", party="alice", state="ready") == 1


def test_a_coordinator_that_makes_steps_is_there_and_one_that_made_none_for_long_is_not(
    api: APIClient, connection: Redis
) -> None:
    Beat.objects.create(coordinator="gone-1", at=timezone.now() - timedelta(minutes=2))
    Beat.objects.create(coordinator="forgotten-1", at=timezone.now() - timedelta(days=2))
    assert of(figures(api), "secretflow_coordinators") == 0
    coordinator = Coordinator()
    coordinator.step()
    found = figures(api)
    assert of(found, "secretflow_coordinators") == 1
    assert of(found, "secretflow_coordinator_idle_seconds") == pytest.approx(0, abs=5)
    assert Beat.objects.count() == 2
    # Redis is away: this coordinator lives all the same
    Beat.objects.update(at=timezone.now() - timedelta(minutes=2))
    coordinator._beat_at = 0.0
    coordinator.without_redis(RedisError())
    assert of(figures(api), "secretflow_coordinators") == 1


def test_lag_is_the_age_of_what_is_not_applied(api: APIClient, parties: Any, connection: Redis) -> None:
    seconds, _ = connection.time()
    connection.xadd(stream_of("alice"), {"ready": "x"}, id=f"{(seconds - 90) * 1000}-0")
    connection.xadd(stream_of("alice"), {"ready": "x" * 100_000})
    found = figures(api)
    assert of(found, "secretflow_stream_entries", party="alice") == 2
    assert of(found, "secretflow_stream_lag_seconds", party="alice") == pytest.approx(90, abs=5)
    assert of(found, "secretflow_stream_lag_seconds", party="bob") == 0
    Listener(connection).step()
    assert of(figures(api), "secretflow_stream_entries", party="alice") == 0


def test_a_party_s_hosts_are_told_by_the_one_that_has_least(api: APIClient, parties: Any, connection: Redis) -> None:
    told: dict[Any, Any]
    for name, free, state in (("1", 4e9, "idle"), ("2", 1e9, "busy")):
        key = add_worker(connection, "alice", name)
        told = {
            "memory_free": free,
            "memory_total": 8e9,
            "disk_free": 2 * free,
            "disk_total": 1e10,
            "load": 3,
            "cpus": 2,
        }
        connection.hset(key, mapping={**told, "state": state})
    odd: dict[Any, Any] = {
        "memory_free": "nan",
        "memory_total": "0",
        "disk_free": "-5",
        "disk_total": "x" * 99,
        "load": "inf",
        "cpus": "0",
    }
    connection.hset(add_worker(connection, "bob"), mapping={**odd, "process": "starting"})
    dead = add_worker(connection, "bob", "dead")
    connection.persist(dead)
    found = figures(api)
    assert of(found, "secretflow_worker_memory_free_bytes", party="alice") == 1e9
    assert of(found, "secretflow_worker_memory_free_ratio", party="alice") == 0.125
    assert of(found, "secretflow_worker_disk_free_ratio", party="alice") == 0.2
    assert of(found, "secretflow_worker_load_per_cpu", party="alice") == 1.5
    assert of(found, "secretflow_workers", party="alice", state="busy") == 1
    assert of(found, "secretflow_workers", party="bob", state="starting") == 1
    assert [
        name for name, labels in found if name.startswith("secretflow_worker_") and ("party", "bob") in labels
    ] == []


def test_what_a_party_put_in_the_place_of_its_keys_costs_others_nothing(
    api: APIClient, workers: None, connection: Redis
) -> None:
    connection.delete("rq:workers:alice")
    connection.set("rq:workers:alice", "no set")
    connection.set(stream_of("alice"), "no stream")
    connection.sadd("rq:workers:bob", "controlplane:wake", "rq:worker:\xff")
    found = figures(api)
    assert of(found, "secretflow_workers", party="alice", state="ready") == 0
    assert of(found, "secretflow_stream_entries", party="alice") == 0
    assert of(found, "secretflow_workers", party="bob", state="ready") == 1


def test_round_trips_are_the_latest_that_parties_told(api: APIClient, parties: dict[str, Party]) -> None:
    now = timezone.now()
    tellings: list[tuple[str, Any, Any]] = [
        ("alice", {"bob": 0.5}, now - timedelta(minutes=2)),
        ("alice", {"bob": 0.02, "mallory": 9.0, "alice": "soon"}, now - timedelta(minutes=1)),
        ("bob", {"alice": 0.7}, now - timedelta(hours=2)),
        ("bob", ["no", "object"], now),
        ("bob", None, None),
    ]
    for party, told, answered_at in tellings:
        PartyCheck.objects.create(
            preflight=Preflight.objects.create(), party=parties[party], answered_at=answered_at,
            facts={"round_trips": told},
        )  # fmt: skip
    found = figures(api)
    trips = {labels: value for (name, labels), value in found.items() if name == "secretflow_link_round_trip_seconds"}
    assert trips == {(("party", "alice"), ("peer", "bob")): 0.02}


def test_without_redis_the_rest_is_told(api: APIClient, parties: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_connection", down)
    found = figures(api)
    assert of(found, "secretflow_redis_up") == 0
    assert of(found, "secretflow_executions", status="QUEUED") == 0
    assert of(found, "secretflow_workers", party="alice", state="ready") is None


def test_without_a_database_the_answer_says_so(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(rows, "totals", away)
    response = api.get("/metrics")
    assert response.status_code == 503
    assert "database" in response.json()["errors"][0]["detail"]


def test_every_metric_is_described_and_none_is_left_out(
    api: APIClient, workers: None, connection: Redis, tmp_path: Path
) -> None:
    run_to_success(connection, tmp_path)
    families = {f.name: f for f in text_string_to_metric_families(api.get("/metrics").content.decode())}
    assert set(families) == set(METRICS)
    for name, family in families.items():
        assert (family.type, family.documentation) == (METRICS[name].kind, METRICS[name].help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(METRICS[name].labels), name


# --- who may ask


def test_prometheus_asks_by_a_token_to_read_and_prefers_formats_of_its_own(parties: Any) -> None:
    client = token_client(make_user("prometheus", "view_execution"), scopes=["read"])
    accepted = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    response = client.get("/metrics", HTTP_ACCEPT=accepted)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert APIClient().get("/metrics", HTTP_ACCEPT=accepted).status_code == 401


@pytest.mark.parametrize(
    ("permissions", "granted", "terms"),
    [
        (["view_execution"], ["alice"], {"scopes": ["read"]}),
        (["view_execution"], None, {"scopes": ["read"], "parties": frozenset({"alice", "bob"})}),
        (["view_execution"], None, {"scopes": ["submit", "manage"]}),
        ([], None, {"scopes": ["read"]}),
    ],
)
def test_who_may_not_see_all_parties_is_told_what_it_takes(
    parties: Any, permissions: list[str], granted: Any, terms: Any
) -> None:
    client = token_client(make_user("somebody", *permissions, parties=granted), **terms)
    response = client.get("/metrics")
    assert response.status_code == 403
    assert "a grant of all parties" in response.json()["errors"][0]["detail"]


def test_a_user_who_was_signed_in_may_look(parties: Any) -> None:
    assert api_as("viewer", "view_execution").get("/metrics").status_code == 200
    assert User.objects.count() == 1


# --- what it takes


def test_it_takes_as_many_queries_however_much_there_is(api: APIClient, connection: Redis, parties: Any) -> None:
    submit()
    Preflight.objects.create()
    with CaptureQueriesContext(database) as few:
        figures(api)
    for _ in range(5):
        execution = submit()
        for name, party in parties.items():
            PartyRun.objects.create(execution=execution, party=party, attempt=1, job_id=f"{name}-{execution.pk}-1")
        settle(execution.pk)
        execution.cancel()
        submit()
        Beat.note(f"coordinator-{execution.pk}")
    with CaptureQueriesContext(database) as more:
        figures(api)
    assert len(more) == len(few) == 8
