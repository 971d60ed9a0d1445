"""A site with a long past, made in bulk: a row of each kind by its model, and the database itself multiplies it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.color import no_style
from django.db import connection
from django.utils import timezone

from controlplane.models import (
    ClusterConfig,
    Dataset,
    Party,
    PartySet,
    PartySetMember,
    Pipeline,
    Schedule,
    SPUConfig,
    Task,
)
from executions.models import (
    Execution,
    ExecutionEvent,
    Label,
    NodeRun,
    PartyCheck,
    PartyRun,
    PipelineChange,
    PipelineRun,
    PortLease,
    Preflight,
    StateChange,
    Tick,
    Total,
)
from executions.models.total import BOUNDS, DURATION, STAGE
from executions.states import ENDED
from tests.benchmarks.multiply import DIALECTS, multiply, without_foreign_keys
from tests.keys import voice
from workers.contract.registry import TASK_EXECUTOR_REGISTRY, stages

#: The past that the executions are spread over, the newest first.
YEAR = 365 * 24 * 3600
#: The newest executions have not ended, whatever the size: first those that run, then those that wait.
RUNNING, RETRYING, QUEUED = 20, 5, 5
#: So many have been submitted just now.
RECENT = 100
#: Nodes of each pipeline run. Node k runs as execution k.
NODES = 3
#: Stages that a party reports, an event each.
STAGES = ("task_started", "sf_init", "devices_ready", "task_execution", "cleanup")


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is. In the smallest, too, every list is longer than a page, so that pages show as many rows."""

    executions: int
    parties: int
    datasets: int
    tasks: int
    #: Also of schedules.
    pipelines: int
    queued: int = QUEUED

    @classmethod
    def of(cls, executions: int) -> Size:
        """Return as much of everything as belongs to so many executions."""
        share = min(executions / 300_000, 1)
        return cls(executions, *(max(120, round(share * most)) for most in (500, 20_000, 2000, 200)))

    @property
    def pipeline_runs(self) -> int:
        return max(60, self.executions // 100)

    @property
    def ticks(self) -> int:
        return max(60, self.executions // 10)


def fill(size: Size) -> None:
    """Fill an empty, migrated database. In a transaction, too."""
    with without_foreign_keys():
        Filling(size).fill()
    kinds = [Party, Dataset, SPUConfig, ClusterConfig, Task, Pipeline, Schedule]
    kinds += [kind.history.model for kind in kinds]
    counted = [
        *kinds,
        PartyRun,
        ExecutionEvent,
        Label,
        StateChange,
        PartyCheck,
        NodeRun,
        PipelineChange,
        Tick,
        PortLease,
    ]
    with connection.cursor() as cursor:
        for sql in connection.ops.sequence_reset_sql(no_style(), counted):
            cursor.execute(sql)
        # What autovacuum does in time, and administrators do after a restore
        vacuum = connection.vendor == "postgresql" and not connection.in_atomic_block
        cursor.execute("VACUUM ANALYZE" if vacuum else "ANALYZE")


class Filling:
    def __init__(self, size: Size) -> None:
        self.size = size
        self.sql = DIALECTS[connection.vendor]
        #: Seconds from an execution to the next older one.
        self.apart = YEAR / size.executions

    def fill(self) -> None:
        self.user, _ = User.objects.get_or_create(
            username="root", defaults={"is_staff": True, "is_superuser": True, "is_active": True}
        )
        self.rare, _ = User.objects.get_or_create(username="rare")
        self.first_set = self.party_sets()
        self.registered()
        self.executions()
        self.pipelines_and_schedules()
        self.totals()

    @staticmethod
    def parties_of(i: str, parties: int) -> tuple[str, str]:
        """Return the SQL of the numbers of the two parties of execution ``i``: one party has a fifth of them all."""
        first = f"(CASE WHEN ({i}) % 5 = 0 THEN 0 ELSE (({i}) * 7) % {parties} END)"
        return first, f"(({first} + 1 + ({i}) % {parties - 1}) % {parties})"

    def party_sets(self) -> int:
        """Store a set for each party, of it and the next one, and return the key of the first: the others follow."""
        names = [f"party{1000 + number}" for number in range(self.size.parties)]
        sets = PartySet.objects.bulk_create(PartySet(digest=name, names=[name]) for name in names)
        PartySetMember.objects.bulk_create(
            PartySetMember(party_set=made, party=party)
            for number, made in enumerate(sets)
            for party in (names[number], names[(number + 1) % len(names)])
        )
        return int(sets[0].pk)

    def name_of(self, number: str) -> str:
        return f"('party' || (1000 + {number}))"

    def with_history(self, row: Any, number: int, **columns: str) -> None:
        """Store and multiply something that is registered, each with its first version."""
        row.save()
        history = type(row).history.get()
        multiply(row, number, **columns)
        multiply(history, number, id="i + 1", **columns)

    def registered(self) -> None:
        size, sql = self.size, self.sql
        self.with_history(
            Party(
                name="template",
                address="127.0.0.1",
                port_first=1,
                port_last=2,
                signing_keys=voice("template").public_key,
            ),
            size.parties,
            name=self.name_of("i"),
            port_first="1024 + 100 * i",
            port_last="1123 + 100 * i",
        )
        every = size.parties
        self.with_history(
            Dataset(
                party_id=1,
                name="template",
                columns={"uid": "str", "age": "int", "income": "float"},
                key_columns=["uid"],
            ),
            size.datasets,
            party_id=f"i % {every} + 1",
            name=f"'table' || (i / {every})",
            produced_by=f"CASE WHEN i / {every} > 20 THEN {sql.row_id('execution')} END",
        )
        self.with_history(SPUConfig(name="template"), 20, name="'spu' || i")
        first, second = self.name_of(f"(i % {every})"), self.name_of(f"((i + 1) % {every})")
        self.with_history(
            ClusterConfig(name="template"),
            every,
            name="'cluster' || i",
            party_set_id=f"i + {self.first_set}",
            document=sql.document({"parties": ["FIRST", "SECOND"]}, FIRST=first, SECOND=second),
        )
        self.with_history(
            Task(name="template", cluster_id=1, spu_id=1),
            size.tasks,
            name="'task' || i",
            cluster_id=f"i % {every} + 1",
            spu_id="i % 20 + 1",
            document=sql.document(psi("kept-NUMBER"), FIRST=first, SECOND=second, NUMBER="CAST(i AS text)"),
        )

    def executions(self) -> None:
        size, sql = self.size, self.sql
        number, tasks = size.executions, size.tasks
        now, user = timezone.now(), self.user
        first, second = self.parties_of("i", size.parties)
        names = {"FIRST": self.name_of(first), "SECOND": self.name_of(second)}
        at = sql.before_now(f"i * {self.apart}")
        active = RUNNING + RETRYING + size.queued
        waits = f"WHEN i < {RUNNING + RETRYING} THEN 'RETRY' WHEN i < {active} THEN 'QUEUED'"
        ends = "WHEN i % 50 = 7 THEN 'CANCELLED' WHEN i % 12 = 5 THEN 'FAILURE' ELSE 'SUCCESS'"
        status = f"CASE WHEN i < {RUNNING} THEN 'RUNNING' {waits} {ends} END"
        documents = {
            "sf_init_config": {"parties": ["FIRST", "SECOND"]},
            "spu_config": {"runtime_config": {"protocol": "SEMI2K"}},
            "heu_config": {"enable_heu": False},
            "task_config": psi("kept"),
        }
        row = Execution.objects.create(
            task_type="psi", task_id=1, submitted_by=user, attempt=1, stage="cleanup", progress=1,
            result={"intersection_count": 12345}, due_at=now + timedelta(days=1),
        )  # fmt: skip
        multiply(
            row,
            number,
            id=sql.row_id("execution"),
            name=f"'task' || (i % {tasks})",
            task_id=f"i % {tasks} + 1",
            task_type="CASE WHEN i % 100 = 3 THEN 'lr' ELSE 'psi' END",
            node_id=f"CASE WHEN i < {NODES * size.pipeline_runs} THEN {NODES * size.pipeline_runs} - i END",
            parties=sql.document(["FIRST", "SECOND"], **names),
            party_set_id=f"{first} + {self.first_set}",
            submitted_by_id=f"CASE WHEN i % 1000 = 77 THEN {self.rare.pk} ELSE {user.pk} END",
            documents=sql.document(documents, **names),
            status=status,
            error="CASE WHEN i % 12 = 5 THEN 'the party gave no reason' ELSE '' END",
            has_warnings="i % 1000 = 77",
            error_type="CASE WHEN i % 12 = 5 THEN 'AlgorithmError' ELSE '' END",
            created_at=at,
            queued_at=f"CASE WHEN i < {max(active, RECENT)} THEN {sql.before_now('0')} ELSE {at} END",
            started_at=f"CASE WHEN i < {RECENT} THEN {sql.before_now('0')} ELSE {at} END",
            ended_at=f"CASE WHEN i >= {active} THEN {at} END",
        )
        self.runs(now)
        multiply(
            StateChange.objects.create(execution_id=row.pk, to_status="QUEUED", why="submitted", by=user),
            3 * number,
            newest_first=True,
            execution_id=sql.row_id("execution", "i / 3"),
            to_status="CASE i % 3 WHEN 2 THEN 'QUEUED' WHEN 1 THEN 'DISPATCHED' ELSE 'SUCCESS' END",
            at=sql.before_now(f"i / 3 * {self.apart}"),
        )
        # One that all have, and one of which one in a thousand has another value
        multiply(
            Label.objects.create(execution_id=row.pk, key="template", created_at=now),
            2 * number,
            newest_first=True,
            execution_id=sql.row_id("execution", "i / 2"),
            key="CASE WHEN i % 2 = 0 THEN 'team' ELSE 'env' END",
            value="CASE WHEN i % 2 = 0 THEN 'risk' WHEN i / 2 % 1000 = 77 THEN 'rare' ELSE 'prod' END",
            created_at=sql.before_now(f"i / 2 * {self.apart}"),
        )
        self.preflights()

    def runs(self, now: Any) -> None:
        """Two party runs of each execution, with five events each."""
        size, sql = self.size, self.sql
        which = self.parties_of("i / 2", size.parties)
        party = f"CASE WHEN i % 2 = 0 THEN {which[0]} ELSE {which[1]} END"
        at, runs = sql.before_now(f"i / 2 * {self.apart}"), f"i < {2 * RUNNING}"
        ended = f"CASE WHEN {runs} THEN NULL ELSE {at} END"
        row = PartyRun.objects.create(
            execution_id=Execution.objects.first().pk, party_id=1, attempt=1, job_id="template", ports=[20000, 20001],
            stage="task_execution", worker="host-1", enqueued_at=now, last_sequence=5, execution_seconds=1.5,
            devices=["spu"], result={"intersection_count": 12345},
        )  # fmt: skip
        multiply(
            row,
            2 * size.executions,
            newest_first=True,
            execution_id=sql.row_id("execution", "i / 2"),
            party_id=f"{party} + 1",
            job_id=f"{self.name_of(f'({party})')} || '-' || {sql.row_id('execution', 'i / 2')} || '-1'",
            status=f"CASE WHEN {runs} THEN 'RUNNING' WHEN i / 2 % 12 = 5 THEN 'FAILURE' ELSE 'SUCCESS' END",
            dispatched_at=at,
            started_at=at,
            ended_at=ended,
            released_at=ended,
        )
        which = self.parties_of("i / 10", size.parties)
        stage = " ".join(f"WHEN {n} THEN '{name}'" for n, name in enumerate(STAGES))
        event = ExecutionEvent.objects.create(
            execution_id=row.execution_id, party="template", attempt=1, sequence=1, status="RUNNING", timestamp=now,
            worker="host-1", data={"computation_progress": 0.5},
        )  # fmt: skip
        multiply(
            event,
            10 * size.executions,
            newest_first=True,
            execution_id=sql.row_id("execution", "i / 10"),
            party=self.name_of(f"(CASE WHEN i / 5 % 2 = 0 THEN {which[0]} ELSE {which[1]} END)"),
            sequence="i % 5 + 1",
            stage=f"CASE i % 5 {stage} END",
            status=f"CASE WHEN i % 5 = 4 AND i >= {10 * RUNNING} THEN 'SUCCESS' ELSE 'RUNNING' END",
            timestamp=sql.before_now(f"i / 10 * {self.apart}"),
            received_at=sql.before_now(f"i / 10 * {self.apart}"),
        )

    @staticmethod
    def totals() -> None:
        """As many as there ever are: a row of each task type, stage and bound."""
        Total.objects.bulk_create(
            Total(metric=metric, labels=json.dumps([task_type, word]), bound=bound, number=7, seconds=1.5)
            for metric, words in ((STAGE, stages()), (DURATION, sorted(ENDED)))
            for task_type in TASK_EXECUTOR_REGISTRY
            for word in words
            for bound in (*BOUNDS, None)
        )

    def preflights(self) -> None:
        size, sql = self.size, self.sql
        preflight = Preflight.objects.create(execution=Execution.objects.first())
        at = sql.before_now(f"i * {self.apart} + 600")
        multiply(
            preflight,
            size.executions,
            id=sql.row_id("preflight"),
            execution_id=sql.row_id("execution"),
            requested_at=at,
        )
        which = self.parties_of("i / 2", size.parties)
        at = sql.before_now(f"i / 2 * {self.apart} + 600")
        multiply(
            PartyCheck.objects.create(preflight_id=preflight.pk, party_id=1, ports=[20000, 20001]),
            2 * size.executions,
            newest_first=True,
            preflight_id=sql.row_id("preflight", "i / 2"),
            party_id=f"CASE WHEN i % 2 = 0 THEN {which[0]} ELSE {which[1]} END + 1",
            heard_at=at,
            answered_at=at,
        )

    def pipelines_and_schedules(self) -> None:
        size, sql = self.size, self.sql
        runs, now = size.pipeline_runs, timezone.now()
        self.with_history(
            Pipeline(name="template"),
            size.pipelines,
            name="'pipeline' || i",
            nodes=sql.document({"first": {"task": "taskNUMBER"}}, NUMBER="CAST(i AS text)"),
        )
        self.with_history(
            Schedule(name="template", cron="30 2 * * *", task_id=1),
            size.pipelines,
            name="'schedule' || i",
            task_id=f"i % {size.tasks} + 1",
        )
        apart = YEAR / runs
        run = PipelineRun.objects.create(name="template", pipeline_id=1, submitted_by=self.user)
        multiply(
            run,
            runs,
            id=sql.row_id("pipelinerun"),
            name=f"'pipeline' || (i % {size.pipelines})",
            pipeline_id=f"i % {size.pipelines} + 1",
            party_set_id=f"i % {size.parties} + {self.first_set}",
            # The executions of their nodes run
            status=f"CASE WHEN i < {RUNNING // NODES} THEN 'RUNNING' WHEN i % 12 = 7 THEN 'FAILURE' ELSE 'SUCCESS' END",
            created_at=sql.before_now(f"i * {apart}"),
            ended_at=f"CASE WHEN i >= {RUNNING // NODES} THEN {sql.before_now(f'i * {apart}')} END",
        )
        multiply(
            NodeRun.objects.create(
                run_id=run.pk, name="template", position=0, task_id=1, documents={"some": "document"}
            ),
            NODES * runs,
            newest_first=True,
            run_id=sql.row_id("pipelinerun", f"i / {NODES}"),
            name=f"'node' || (i % {NODES})",
            position=f"i % {NODES}",
            task_name=f"'task' || (i % {size.tasks})",
            task_id=f"i % {size.tasks} + 1",
            execution_id=sql.row_id("execution"),
        )
        multiply(
            PipelineChange.objects.create(run_id=run.pk, to_status="RUNNING", at=now, by=self.user),
            2 * runs,
            newest_first=True,
            run_id=sql.row_id("pipelinerun", "i / 2"),
            at=sql.before_now(f"i / 2 * {apart}"),
        )
        multiply(
            Tick.objects.create(schedule_id=1, due_at=now),
            size.ticks,
            newest_first=True,
            schedule_id=f"i % {size.pipelines} + 1",
            due_at=sql.before_now(f"i * {YEAR / size.ticks}"),
            at=sql.before_now(f"i * {YEAR / size.ticks}"),
            execution_id=sql.row_id("execution"),
        )


def psi(kept: str) -> dict[str, Any]:
    """The task document of an intersection of what FIRST and SECOND have."""
    return {
        "task_type": "psi",
        "data_sources": {"FIRST": "table0", "SECOND": "table0"},
        "outputs": {"FIRST": kept, "SECOND": kept},
        "algorithm_params": {
            "psi_params": {"input_keys": {"FIRST": ["uid"], "SECOND": ["uid"]}, "receivers": ["FIRST", "SECOND"]}
        },
    }
