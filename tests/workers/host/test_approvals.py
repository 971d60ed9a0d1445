"""What people approved on a party's host: signed there, counted there, and nothing that anybody else can make up."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from tests.keys import introduce, stream, voice
from tests.rules.base import dispatched
from workers.contract.errors import ConfigError
from workers.contract.orders import OrderRefused
from workers.contract.run_name import MOST_ATTEMPTS, RunName
from workers.host import approvals as module
from workers.host.approvals import MOST_REQUESTS, Approvals, NotApproved, digest_of
from workers.host.party import PartyHost
from workers.runtime import task_run

DIGEST, OTHER = "a1" * 32, "a2" * 32


@pytest.fixture
def approvals(tmp_path: Path) -> Approvals:
    return Approvals(tmp_path / ".approvals", voice("alice"))


def some_execution() -> str:
    return str(uuid4())


def approve(approvals: Approvals, digest: str = DIGEST, uses: int = 1, days: float = 7.0) -> None:
    approvals.approve(approvals.find(digest), by="ann", uses=uses, days=days)


def test_nothing_is_let_through_that_nobody_approved(approvals: Approvals) -> None:
    execution = some_execution()
    for _ in range(2):
        with pytest.raises(NotApproved, match="nobody on this host has approved it"):
            approvals.take(DIGEST, execution)
        approvals.ask(DIGEST, execution, {"task_config": {"task_type": "psi"}})
    [request] = approvals.waiting()
    assert (request.digest, request.executions, request.state) == (DIGEST, [execution], "asked")


def test_an_approval_lets_an_execution_through_with_all_its_attempts_and_no_other(approvals: Approvals) -> None:
    first, second = some_execution(), some_execution()
    approvals.ask(DIGEST, first, {})
    approve(approvals)
    assert approvals.waiting() == []
    for _ in range(3):
        approvals.take(DIGEST, first)
    with pytest.raises(NotApproved, match="used up"):
        approvals.take(DIGEST, second)
    with pytest.raises(NotApproved, match="nobody"):
        approvals.take(OTHER, first)
    approvals.ask(DIGEST, second, {})
    assert approvals.waiting()[0].executions == [second]


def test_an_approval_may_cover_several_executions_for_a_time(
    approvals: Approvals, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [some_execution() for _ in range(4)]
    approvals.ask(DIGEST, names[0], {})
    approve(approvals, uses=3, days=2)
    for name in names[:2]:
        approvals.take(DIGEST, name)
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 2 * 86_400 + 1)
    with pytest.raises(NotApproved, match="nobody on this host has approved it"):
        approvals.take(DIGEST, names[2])
    with pytest.raises(NotApproved):
        approvals.take(DIGEST, names[1])  # also to an attempt of one that it let through


def test_uses_are_counted_once_by_many_at_once(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path / ".approvals", voice("alice"))
    approvals.ask(DIGEST, some_execution(), {})
    approve(approvals, uses=5)

    def take(_: int) -> bool:
        try:
            Approvals(tmp_path / ".approvals", voice("alice")).take(DIGEST, some_execution())
        except NotApproved:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(40))) == 5


def test_what_was_refused_is_not_asked_again_until_it_is_approved(approvals: Approvals) -> None:
    execution = some_execution()
    approvals.ask(DIGEST, execution, {})
    approvals.refuse(approvals.find("a1a1"), reason="not this quarter")
    assert approvals.refusal_of(DIGEST) == "not this quarter"
    approvals.ask(DIGEST, some_execution(), {})
    assert approvals.waiting() == []
    with pytest.raises(NotApproved):
        approvals.take(DIGEST, execution)
    approve(approvals)
    assert approvals.refusal_of(DIGEST) is None
    approvals.take(DIGEST, execution)
    approvals.refuse(approvals.find(DIGEST), reason="")
    with pytest.raises(NotApproved):
        approvals.take(DIGEST, some_execution())


FORGED: dict[str, Any] = {
    "more uses": lambda said: said | {"approval": said["approval"].replace('"uses": 1', '"uses": 1000')},
    "longer": lambda said: said | {"approval": said["approval"].replace('"until": 1', '"until": 9')},
    "by another key": lambda said: said | {"signature": voice("bob").sign("approval", said["approval"].encode())},
    "for another purpose": lambda said: said | {"signature": voice("alice").sign("event", said["approval"].encode())},
    "no signature": lambda said: {"approval": said["approval"]},
    "no JSON object": lambda said: [said],
    "nothing": lambda said: None,
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_an_approval_that_this_party_did_not_sign_as_it_is_lets_nothing_through(
    approvals: Approvals, change: Any
) -> None:
    approvals.ask(DIGEST, some_execution(), {})
    approve(approvals)
    path = approvals.directory / DIGEST / "approved.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(NotApproved, match="nobody"):
        approvals.take(DIGEST, some_execution())


def test_an_approval_of_one_thing_is_none_of_another(approvals: Approvals) -> None:
    for digest in (DIGEST, OTHER):
        approvals.ask(digest, some_execution(), {})
    approve(approvals)
    place = approvals.directory / OTHER / "approved.json"
    place.write_bytes((approvals.directory / DIGEST / "approved.json").read_bytes())
    with pytest.raises(NotApproved, match="nobody"):
        approvals.take(OTHER, some_execution())


def test_requests_are_named_by_the_beginning_of_their_digest(approvals: Approvals) -> None:
    for digest in (DIGEST, OTHER):
        approvals.ask(digest, some_execution(), {})
    assert approvals.find("a1").digest == DIGEST
    for start, reason in (("a", "several requests begin"), ("b", "no request begins"), ("", "no request begins")):
        with pytest.raises(ConfigError, match=f"{reason} with '{start}'; `manage.py party approvals` lists them"):
            approvals.find(start)


def test_files_are_private_and_requests_are_bounded(approvals: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REQUESTS", 5)
    assert MOST_REQUESTS == 1000
    for number in range(8):
        approvals.ask(f"{number:064x}", some_execution(), {})
    assert [int(request.digest, 16) for request in approvals.waiting()] == [3, 4, 5, 6, 7]
    for path in approvals.directory.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.name == ".lock", path


def test_a_request_shows_no_secret(approvals: Approvals) -> None:
    approvals.ask(DIGEST, some_execution(), {"task_config": {"task_type": "psi"}, "spu_config": {"a": 1}})
    [request] = approvals.waiting()
    assert request.documents == {"task_config": {"task_type": "psi"}, "spu_config": {"a": 1}}


# --- a hostile control plane


@pytest.fixture
def asking(tmp_path: Path, connection: Redis, monkeypatch: pytest.MonkeyPatch) -> PartyHost:
    """alice's host, whose policy asks for approvals."""
    (tmp_path / "people.csv").write_text("uid\na\n")
    path = tmp_path / "party.toml"
    path.write_text(
        'party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\napprove = "ask"\nsecurity = "trial"\n'
        '[datasets.people]\npath = "people.csv"\n'
    )
    host = PartyHost.load(introduce(path))
    host.prepare_directories()
    monkeypatch.chdir(tmp_path)  # a run leaves this process in /
    monkeypatch.setattr(task_run, "runtime", task_run.Runtime(host, stream(connection, "alice"), "alice-1"))
    return host


def job() -> tuple[str, dict[str, Any]]:
    """What a control plane that skips the checks, and has its own key, may send."""
    execution = some_execution()
    documents = dispatched()
    documents["sf_init_config"]["job_name"] = f"{execution}-1"
    return execution, {"task_request_id": execution, **documents}


def test_a_control_plane_that_skips_the_question_gets_nothing(asking: PartyHost) -> None:
    _, sent = job()
    answer = task_run.execute_secretflow_task(**sent)
    assert answer["status"] == "failure"
    assert answer["result_metadata"]["error"].startswith("nobody on this host has approved it")
    assert not list(asking.output_dir.glob("*.csv"))


def test_an_approval_of_one_task_is_none_of_a_wider_one(asking: PartyHost) -> None:
    execution, sent = job()
    approved = digest_of("alice", task_run.accept(asking, {k: v for k, v in sent.items() if k != "task_request_id"}))
    assert asking.approvals
    asking.approvals.ask(approved, execution, {})
    asking.approvals.approve(asking.approvals.find(approved), by="ann", uses=5, days=1)
    asking.approvals.take(approved, execution)
    task = sent["task_config"]
    psi = task["algorithm_params"]["psi_params"]
    for wider in (
        task | {"outputs": {**task["outputs"], "alice": "another"}},
        task | {"outputs": {"bob": "common"}, "algorithm_params": {"psi_params": psi | {"receivers": ["bob"]}}},
        task | {"algorithm_params": {"psi_params": psi | {"join_type": "left_join", "left_side": "alice"}}},
    ):
        answer = task_run.execute_secretflow_task(**(sent | {"task_config": wider}))
        assert answer["result_metadata"]["error"].startswith("nobody on this host has approved it"), wider


def test_a_refusal_or_the_end_of_an_approval_holds_for_later_attempts_too(
    approvals: Approvals, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = some_execution()
    approvals.ask(DIGEST, execution, {})
    approve(approvals, days=1)
    approvals.take(DIGEST, execution)
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(module.time, "time", lambda: now + 86_400 + 1)
        with pytest.raises(NotApproved):
            approvals.take(DIGEST, execution)
    approvals.refuse(approvals.find(DIGEST), reason="")
    assert approvals.refusal_of(DIGEST) == "", "a refusal needs no reason"
    with pytest.raises(NotApproved):
        approvals.take(DIGEST, execution)
    approvals.ask(DIGEST, execution, {})
    assert approvals.waiting() == []


def test_an_execution_has_a_bounded_number_of_attempts() -> None:
    execution = some_execution()
    named = {"sf_init_config": {"job_name": f"{execution}-20"}}
    assert RunName.of(execution, named).attempt == MOST_ATTEMPTS
    with pytest.raises(OrderRefused):
        RunName.of(execution, {"sf_init_config": {"job_name": f"{execution}-21"}})
