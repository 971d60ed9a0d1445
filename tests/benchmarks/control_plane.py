"""The control plane alone: events applied, executions dispatched and submitted. The parties are only keys in Redis."""

from __future__ import annotations

import random
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console

EVENTS = 2000
QUEUES = (100, 10_000)
PARTIES = 500
FREED = 20
SUBMISSIONS = 200


def events_in_batches(console: Console) -> None:
    """Rate of events applied, a thousand a transaction, over one a transaction."""
    from executions.coordinator.listener import Listener
    from executions.models import Execution, ExecutionEvent, PartyRun
    from executions.redis import redis_connection
    from executions.states import Status
    from tests.composed import documents, make_parties
    from tests.keys import stream
    from workers.contract.events import RUNNING
    from workers.contract.run_name import RunName
    from workers.runtime.publisher import Publisher

    connection = redis_connection()
    party = make_parties()["alice"]
    seconds = {}
    for batch in (1, 1000):
        execution = Execution.objects.submit(documents())
        Execution.objects.filter(pk=execution.pk).update(status=Status.DISPATCHED, attempt=1)
        PartyRun.objects.create(execution=execution, party=party, attempt=1, job_id=str(execution.pk))
        with tempfile.TemporaryDirectory() as directory:
            publisher = Publisher(
                stream(connection, "alice"), run=RunName(str(execution.pk), 1), worker="w", task_type="psi",
                journal_dir=Path(directory),
            )  # fmt: skip
            for number in range(EVENTS):
                publisher.publish(RUNNING, "task_execution", computation_progress=number / EVENTS)
        listener = Listener(connection)
        listener.BATCH = batch
        started = time.perf_counter()
        while listener.step():
            pass
        seconds[batch] = time.perf_counter() - started
        assert ExecutionEvent.objects.filter(execution=execution).count() == EVENTS
    rates = {batch: EVENTS / spent for batch, spent in seconds.items()}
    console.print(
        f"events applied: {rates[1000]:,.0f} a second in batches, {rates[1]:,.0f} one by one; "
        f"ratio (batches / one by one): [bold]{rates[1000] / rates[1]:.1f}[/]"
    )


def dispatch_of_long_queues(console: Console) -> None:
    """Time of one step with 10,000 executions queued over 500 parties, over that with 100 queued."""
    from django.db import connection as database
    from django.test.utils import CaptureQueriesContext

    from controlplane.models import Party
    from executions.coordinator.dispatch import Dispatcher
    from executions.models import Execution, PartyRun
    from executions.redis import redis_connection
    from tests.composed import documents
    from tests.keys import voice
    from tests.simulated import add_worker, dispatch

    connection = redis_connection()
    names = [f"party-{number:03}" for number in range(PARTIES)]
    Party.objects.bulk_create(
        Party(
            name=name,
            address="127.0.0.1",
            port_first=1024 + 100 * i,
            port_last=1123 + 100 * i,
            signing_keys=voice(name).public_key,
        )
        for i, name in enumerate(names)
    )
    draw = random.Random(1)
    measured: dict[int, dict[str, Any]] = {}
    for length in QUEUES:
        Execution.objects.all().delete()
        connection.flushdb()
        for name in names:
            connection.expire(add_worker(connection, name), 3600)
        pairs = [draw.sample(names, 2) for _ in range(length)]
        body = documents()
        waiting = [
            Execution(task_type="psi", parties=pair, documents=body | {"sf_init_config": {"parties": pair}})
            for pair in pairs
        ]
        Execution.objects.bulk_create(waiting, batch_size=500)
        dispatcher = Dispatcher(connection)
        found = measured[length] = {}
        for step in ("first", "second", "idle"):
            with CaptureQueriesContext(database) as queries:
                started = time.perf_counter()
                dispatch(dispatcher)
                found[step] = time.perf_counter() - started
            found[f"{step} queries"] = len(queries)
        found["dispatched"] = PartyRun.objects.count() // 2
        found["enqueued"] = min(_from_free_to_enqueued(connection) for _ in range(FREED))
    few, many = (measured[length] for length in QUEUES)
    for step, what in (("first", "what fits"), ("idle", "nothing fits")):
        described = [
            f"{found[step] * 1000:.0f} ms and {found[f'{step} queries']} queries with {length:,} queued"
            for length, found in measured.items()
        ]
        console.print(
            f"dispatch, {what}: {', '.join(described)}; "
            f"ratio for {QUEUES[1] // QUEUES[0]} times the queue: [bold]{many[step] / few[step]:.1f}[/]"
        )
    console.print(f"  dispatched at once: {', '.join(str(found['dispatched']) for found in measured.values())}")
    described = [f"{1000 * found['enqueued']:.0f} ms with {length:,} queued" for length, found in measured.items()]
    console.print(f"  from a free slot to the next job in the queue: {', '.join(described)}")


def _from_free_to_enqueued(connection: Any) -> float:
    """Seconds from the beginning of a step, with a slot free at two parties and their checks passed, to their jobs."""
    from executions.coordinator.dispatch import Dispatcher
    from executions.coordinator.enqueue import Enqueuer
    from executions.models import Execution
    from executions.states import Status
    from tests.simulated import finish, pass_checks

    class Timed(Enqueuer):
        enqueued = 0.0

        def _add(self, jobs: Any) -> None:
            super()._add(jobs)
            self.enqueued = time.perf_counter()

    dispatcher = Dispatcher(connection)
    dispatcher.enqueuer = enqueuer = Timed(connection)
    done = Execution.objects.filter(status=Status.DISPATCHED).first()
    assert done
    finish(done)
    # Before all others, so that it is the one that takes the place
    following = Execution.objects.create(
        task_type="psi",
        parties=done.parties,
        documents=done.documents,
        created_at=datetime(2020, 1, 1, tzinfo=timezone.utc),
    )
    dispatcher.step()
    pass_checks()
    started = time.perf_counter()
    dispatcher.step()
    following.refresh_from_db()
    assert following.status == Status.DISPATCHED
    return enqueuer.enqueued - started


def submit_rate(console: Console) -> None:
    """Executions submitted a second by POST, over rows inserted a second."""
    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

    from executions.models import Execution
    from tests.composed import documents

    client = APIClient()
    client.force_authenticate(User.objects.create_superuser("bench"))
    body = documents()
    started = time.perf_counter()
    for _ in range(SUBMISSIONS):
        answer = client.post("/api/v1/executions/", body, format="json", headers={"host": "localhost"})
        assert answer.status_code == 201, answer.content
    posted = SUBMISSIONS / (time.perf_counter() - started)
    started = time.perf_counter()
    for _ in range(SUBMISSIONS):
        Execution.objects.create(task_type="psi", parties=["alice", "bob"], documents=body)
    inserted = SUBMISSIONS / (time.perf_counter() - started)
    console.print(
        f"submitted: {posted:,.0f} a second by POST, {inserted:,.0f} bare rows inserted; "
        f"ratio (POST / insert): [bold]{posted / inserted:.2f}[/]"
    )


def main(console: Console) -> None:
    events_in_batches(console)
    submit_rate(console)
    dispatch_of_long_queues(console)
