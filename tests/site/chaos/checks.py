"""What has to be true of everything that was submitted, whatever was broken meanwhile."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from typing import Any

from controlplane.environment import ROOT
from executions.states import ENDED
from executions.trial.stack import Trial
from tests.site.chaos.floods import FLOOD
from tests.site.chaos.hosts import HOUR
from tests.site.chaos.services import Followed
from workers.runtime.task_run import EVENTS_OF_A_TRY
from workers.runtime.worker import WORKER_SEQUENCE

#: What became of everything, as the database has it.
REPORT = """
import json
from executions.models import *
def of(e):
    return {
        "id": str(e.pk), "status": e.status, "attempt": e.attempt, "error": e.error, "error_type": e.error_type,
        "retries": e.retries, "limits": [e.network_retries, e.resource_retries], "result": e.result, "name": e.name,
        "changes": list(e.changes.order_by("pk").values_list("from_status", "to_status")),
        "history": [f"{c.at:%T.%f} {c.to_status} {c.why}" for c in e.changes.order_by("pk")],
        "runs": [[r.attempt, r.party.name, r.status, r.last_sequence] for r in e.runs.select_related("party")],
        "times": [
            f"{r.job_id}: " + ", ".join(f"{n} {getattr(r, n + '_at'):%T.%f}" for n in
            ["dispatched", "enqueued", "started", "ended", "stop_requested", "released"] if getattr(r, n + "_at"))
            + f" {r.status} {r.error_type} {r.error}" for r in e.runs.all()
        ],
        "events": [[v.attempt, v.party, v.sequence, v.status, v.stage, v.timestamp.timestamp(), v.worker]
                   for v in e.events.order_by("attempt", "party", "sequence")],
    }
print(json.dumps({
    "executions": [of(e) for e in Execution.objects.all()],
    "leases": PortLease.objects.count(),
    "unreleased": PartyRun.objects.filter(released_at=None).count(),
    "dead_letters": DeadLetter.objects.count(),
}))
"""


def report(trial: Trial) -> dict[str, Any]:
    """Return what became of everything."""
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", REPORT],
        cwd=ROOT, env=trial.env, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def check(execution: dict[str, Any], followed: Followed, patients: int, *, has_journal: bool) -> None:
    """``patients``: rows that alice and bob have in common. ``has_journal``: its events were on its parties' disks."""
    check_history(execution)
    if execution["status"] == "SUCCESS":
        check_success(execution, followed, patients, has_journal)
    elif execution["status"] == "FAILURE":
        check_failure(execution, followed)
    else:
        assert followed.cancelled, "nobody cancelled it"


def check_history(execution: dict[str, Any]) -> None:
    """Its states follow one another, and its events are those of one attempt after the other."""
    states = ["", *(to for _, to in execution["changes"])]
    assert [before for before, _ in execution["changes"]] == states[:-1], "a change of state is missing"
    assert states[-1] == execution["status"]
    assert sum(state in ENDED for state in states) == 1, "it ended more than once"
    by_attempt: dict[int, list[Any]] = {}
    for event in execution["events"]:
        if not is_made_up(event):
            by_attempt.setdefault(event[0], []).append(event)
    for attempt, events in by_attempt.items():
        began, first = min((true_time(e[5]), e) for e in events)
        for earlier in (e for a, found in by_attempt.items() if a < attempt for e in found if e[4] != "cleanup"):
            late = true_time(earlier[5]) - began
            assert late <= 0, (
                f"attempt {earlier[0]} went on beside attempt {attempt}: {earlier}, {late:.3f} s after {first}"
            )
        for party in {e[1] for e in events}:
            computing = {e[6] for e in events if e[1] == party and e[2] < WORKER_SEQUENCE}
            assert len(computing) <= 1, f"{party} ran attempt {attempt} twice"


def is_made_up(event: list[Any]) -> bool:
    """Return whether a flood made it up, and no run: a party that floods has its own key, so what it says of an old
    attempt is recorded. It changes nothing. The first event of a run is always that it has started."""
    return bool(event[6].endswith(FLOOD) or (event[2] == 1 and event[4] != "task_started"))


def true_time(stamp: float) -> float:
    """Return the time of an event by this machine's clock: its party's was right, or wrong by an hour, and no run of
    this test takes half of one."""
    ago = time.time() - HOUR / 2 - stamp
    return stamp + HOUR * round(ago / HOUR)


def check_success(execution: dict[str, Any], followed: Followed, patients: int, has_journal: bool) -> None:
    result = execution["result"]
    if followed.kind == "psi":
        assert result["intersection_count"] == {"alice": patients, "bob": patients}
    else:
        assert result["total"] == followed.expected
    for attempt, party, status, _ in execution["runs"]:
        if attempt == execution["attempt"]:
            assert status == "SUCCESS"
            told = [e for e in execution["events"] if e[0] == attempt and e[1] == party]
            own = [e for e in told if e[2] < WORKER_SEQUENCE]  # the rest is its worker's report of how it ended
            if has_journal:  # else Redis may have lost what was nowhere else
                check_complete(own)
            # killed after it had said so, it did not come to its clean-up
            assert next(e[3:5] for e in own if e[3] == "SUCCESS") == ["SUCCESS", "task_execution"]


def check_complete(own: list[Any]) -> None:
    assert are_complete([e[2] for e in own]), f"an event is lost: {[e[2:5] for e in own]}"
    assert own[0][4] == "task_started"


def are_complete(sequences: list[int]) -> bool:
    """Whether none is missing, and none there twice. A process whose links hung hands the run on to another one, which
    counts from the next thousand."""
    for number, numbers in itertools.groupby(sequences, lambda sequence: sequence // EVENTS_OF_A_TRY):
        found, first = list(numbers), number * EVENTS_OF_A_TRY + 1
        if found != list(range(first, first + len(found))):
            return False
    return not sequences or sequences[0] == 1


def check_failure(execution: dict[str, Any], followed: Followed) -> None:
    if followed.kind == "wrong" and execution["error_type"] == "ConfigError":
        return
    network, resource = execution["limits"]
    limits = {"NetworkError": network, "ResourceError": resource}
    kind = execution["error_type"]
    assert kind in limits, execution["error"]
    assert execution["retries"].get(kind, 0) == limits[kind], f"it gave up too early: {execution}"
