"""What a live session rests on, and what a worker does with one. That it is reused at all: test_live_devices."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rules.base import component, dispatched
from workers.contract.validation import validate
from workers.host.party import PartyHost
from workers.runtime.keeper import Keeper
from workers.runtime.session import key_of

RUN = "0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e"
TOML = """
party = "alice"
[policy]
task_types = ["*"]
peers = ["bob"]
security = "trial"
[tls]
certificate = "alice.pem"
private_key = "alice.key"
ca = "ca.pem"
[datasets.people]
path = "people.csv"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    for name in ("alice.pem", "alice.key", "ca.pem"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "party.toml"
    path.write_text(TOML)
    return path


def documents(**cluster: Any) -> dict[str, Any]:
    found = dispatched()
    found["sf_init_config"] |= {"tls_config": {"enabled": True}, "job_name": "a-1", **cluster}
    return found


def key(toml: Path, found: dict[str, Any]) -> str:
    return key_of(PartyHost.load(toml), validate(found))


def moved(found: dict[str, Any], host: str, port: int) -> None:
    """Bob to another host or other ports."""
    found["sf_init_config"]["cluster"]["bob"]["address"] = f"{host}:{port}"
    found["spu_config"]["nodes"][1]["address"] = f"{host}:{port + 1}"


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["sf_init_config"].update(job_name=f"{RUN}-7"),
        lambda found: moved(found, "127.0.0.1", 20150),
        lambda found: found["task_config"].update(domain="marketing", keep_devices_seconds=5),
        lambda found: found["spu_config"].update(runtime_config={"protocol": "SEMI2K"}),  # the default
    ],
)
def test_runs_may_differ_in_name_ports_and_task(toml: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    other = documents()
    change(other)
    assert key(toml, other) == key(toml, documents())


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["sf_init_config"].update(parties=["bob", "alice"]),
        lambda found: moved(found, "127.0.0.2", 20100),
        lambda found: found["sf_init_config"].update(tls_config=None),
        lambda found: found["sf_init_config"].update(cross_silo_comm_backend="grpc"),
        lambda found: found["spu_config"].update(runtime_config={"field": "FM64"}),
        lambda found: found["spu_config"].update(link_desc={"throttle_window_size": 3}),
        lambda found: found.update(heu_config={"enable_heu": True}),
    ],
)
def test_runs_that_differ_in_cluster_or_devices_share_no_session(
    toml: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    other = documents()
    change(other)
    assert key(toml, other) != key(toml, documents())


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("party.toml", '["bob"]', '["bob", "carol"]'),
        ("party.toml", '"trial"', '"production"'),
        ("party.toml", "[policy]", 'listen_host = "0.0.0.0"\n[policy]'),
        ("alice.pem", "alice", "renewed"),
        ("alice.key", "alice", "renewed"),
        ("ca.pem", "ca", "another"),
    ],
)
def test_a_session_does_not_outlive_the_policy_and_the_tls_files_of_its_host(
    toml: Path, file: str, old: str, new: str
) -> None:
    before = key(toml, documents())
    path = toml.parent / file
    path.write_text(path.read_text().replace(old, new))
    assert key(toml, documents()) != before


def test_it_does_outlive_other_changes(toml: Path) -> None:
    before = key(toml, documents())
    toml.write_text(toml.read_text() + '[datasets.more]\npath = "more.csv"\n')
    assert key(toml, documents()) == before


def running(name: str, **attributes: Any) -> dict[str, Any]:
    """Of a component instead, which may have settings of its own for the SPU."""
    more = {"attributes": attributes} if attributes else {}
    task = component(name, **more)["task_config"]
    return documents() | {"task_config": task | ({"outputs": {}} if name.startswith("stats/") else {})}


def test_tasks_that_need_other_settings_of_the_devices_share_no_session(toml: Path) -> None:
    plain = {key(toml, documents()), key(toml, running("ml.train/ss_sgd_train", epochs=2))}
    correlation = {
        "task_type": "correlation",
        "outputs": {},
        "algorithm_params": {"statistics_params": {"columns": {"alice": ["age"], "bob": ["number"]}}},
    }
    found = documents()
    found["task_config"] |= correlation
    precise = {key(toml, found), key(toml, running("stats/ss_pearsonr")), key(toml, running("stats/ss_vif"))}
    taylor, pade = (
        key(
            toml,
            running(
                "ml.train/ss_glm_train", label_dist_type="Bernoulli", link_type="Logit", optimizer="SGD", exp_mode=mode
            ),
        )
        for mode in ("taylor", "pade")
    )
    assert (len(plain), len(precise)) == (1, 1)
    assert len({*plain, *precise, taylor, pade}) == 4


# --- the worker's keeper


class Held:
    """A process that holds a session, as far as a keeper can tell."""

    def __init__(self) -> None:
        self.process, self.closed, self.ended = self, 0, False

    def poll(self) -> int | None:
        return 0 if self.ended or self.closed else None

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def keeper(toml: Path) -> Keeper:
    return Keeper(PartyHost.load(toml))


def keep(keeper: Keeper, seconds: int = 60) -> Any:
    process: Any = Held()
    keeper.ports = [20000, 20001]
    keeper.keep(process, {"key": "k", "last_run": "a-1", "idle_seconds": seconds})
    keeper.run_ended()
    assert keeper.ports == [20000, 20001]
    return process


def test_it_keeps_a_session_for_as_long_as_it_may(keeper: Keeper) -> None:
    process = keep(keeper)
    assert not keeper.look_after(unwanted=False)
    assert not process.closed
    assert keeper.end()
    assert (process.closed, keeper.ports, keeper.end()) == (1, [], False)


@pytest.mark.parametrize("why", ["idle", "dead", "unwanted"])
def test_it_ends_a_session_that_is_of_no_more_use(keeper: Keeper, why: str) -> None:
    process = keep(keeper, seconds=0 if why == "idle" else 60)
    process.ended = why == "dead"
    time.sleep(0.01)
    assert keeper.look_after(unwanted=why == "unwanted")
    assert (process.closed, keeper.ports) == (1, [])


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"task_request_id": RUN} | documents(job_name=f"{RUN}-1"),  # does not ask for it
        {"task_request_id": RUN} | documents(job_name=f"{RUN}-1", self_party="bob"),
        {"task_request_id": RUN, "sf_init_config": 1, "task_config": 2},
    ],
)
def test_whatever_comes_that_is_not_for_the_session_ends_it(keeper: Keeper, request_: dict[str, Any]) -> None:
    process = keep(keeper)
    assert keeper.process_for(request_, lambda: False) is None
    assert process.closed == 1


def test_a_second_attempt_takes_no_session_and_meets_nobody(keeper: Keeper, toml: Path) -> None:
    found = documents(job_name=f"{RUN}-2", tls_config=None)
    found["task_config"]["keep_devices_seconds"] = 60
    process = keep(keeper)
    assert keeper.process_for({"task_request_id": RUN} | found, lambda: False) is None
    assert process.closed == 1
    assert keeper.ports == [20000, 20001], "those it is about to listen on, which may outlive it"
    keeper.run_ended()
    assert keeper.ports == []


def test_it_gives_the_meeting_up_for_a_run_that_was_stopped(keeper: Keeper) -> None:
    found = documents(job_name=f"{RUN}-1", tls_config=None)
    found["task_config"]["keep_devices_seconds"] = 60
    with socket.create_server(("127.0.0.1", 0)) as free:
        found["sf_init_config"]["cluster"]["alice"]["address"] = f"127.0.0.1:{free.getsockname()[1]}"
    process, asked = keep(keeper), []

    def is_stopped() -> bool:
        asked.append(1)
        return True

    assert keeper.process_for({"task_request_id": RUN} | found, is_stopped) is None
    assert (process.closed, bool(asked)) == (1, True)
