"""Pre-flight checks as a party's host does them: real files, real ports, a real meeting of two parties."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis

from executions.coordinator.key import own_key
from fixtures.documents import psi_documents
from tests.keys import introduce, stream
from workers.contract.keys import wanted
from workers.contract.orders import PREFLIGHT, signed_order
from workers.contract.reports import TAKE_WITHIN, WANTED_SECONDS
from workers.host.party import PartyHost
from workers.runtime import preflight
from workers.runtime.desk import Desk
from workers.runtime.intake import Intake
from workers.runtime.preflight import check

TABLE = "uid,age\n" + "".join(f"p{i},{i}\n" for i in range(20))
COLUMNS = {"uid": "str", "age": "int"}
ALL = ["documents", "ports", "peers", "dataset", "data", "memory", "disk"]


#: Ports that were given out: the kernel gives one that is free again a second time.
given_out: set[int] = set()


def unused_port() -> int:
    while True:
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            port: int = server.getsockname()[1]
        if port not in given_out:
            given_out.add(port)
            return port


class Host:
    """A party's directory, and its free ports."""

    def __init__(self, directory: Path, name: str, policy: str = "") -> None:
        self.directory = directory / name
        self.directory.mkdir()
        self.name = name
        self.table = self.directory / "people.csv"
        self.table.write_text(TABLE)
        self.toml = self.directory / "party.toml"
        self.write(policy)
        self.ports = [unused_port(), unused_port()]

    def write(self, policy: str) -> None:
        self.toml.write_text(
            f'party = "{self.name}"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n{policy}\n'
            '[datasets.people]\npath = "people.csv"\n'
        )
        introduce(self.toml, self.name)

    @property
    def host(self) -> PartyHost:
        return PartyHost.load(self.toml)


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Host]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return {name: Host(tmp_path, name) for name in ("alice", "bob")}


def request(hosts: dict[str, Host], me: str, **extra: Any) -> dict[str, Any]:
    documents = psi_documents("people")
    documents["sf_init_config"] |= {
        "self_party": me,
        "job_name": "x-1",
        "cluster": {name: {"address": f"127.0.0.1:{h.ports[0]}"} for name, h in hosts.items()},
    }
    documents["spu_config"] = {"nodes": [{"party": n, "address": f"127.0.0.1:{h.ports[1]}"} for n, h in hosts.items()]}
    return {"preflight": "1", "documents": documents, "columns": COLUMNS} | extra


def check_both(hosts: dict[str, Host]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    threads = [
        threading.Thread(target=lambda n=name: found.__setitem__(n, check(hosts[n].host, request(hosts, n))))
        for name in hosts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


def errors(report: dict[str, Any]) -> dict[str, str]:
    return {c["check"]: c["error"] for c in report["checks"] if "error" in c}


def alone(hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch, **extra: Any) -> dict[str, Any]:
    """alice's report, with bob away."""
    monkeypatch.setattr(preflight, "MEETING_SECONDS", 0.2)
    return check(hosts["alice"].host, request(hosts, "alice", **extra))


def test_all_is_well(hosts: dict[str, Host]) -> None:
    for name, report in check_both(hosts).items():
        assert [c["check"] for c in report["checks"]] == ALL, name
        assert errors(report) == {}
        assert report["facts"]["dataset"] == {"name": "people", "columns": COLUMNS}, "counts are not published"
        assert set(report["facts"]["versions"]) == {"secretflow", "spu"}
        assert report["facts"]["free_memory"] > 2**20
        assert report["facts"]["free_disk"] > 2**20
        [(peer, seconds)] = report["facts"]["round_trips"].items()
        assert peer != name
        assert 0 < seconds < 2
        assert "p1" not in json.dumps(report), "a row left the host"
        assert str(hosts[name].directory) not in json.dumps(report), "a path left the host"


def test_counts_are_told_where_the_policy_says_so_and_nothing_where_it_says_that(
    hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts["alice"].write('publish = "counts"')
    assert alone(hosts, monkeypatch)["facts"]["dataset"] == {"name": "people", "columns": COLUMNS, "rows": 20}
    hosts["alice"].write('publish = "nothing"')
    assert alone(hosts, monkeypatch)["facts"]["dataset"] == {"name": "people"}


def test_a_registered_type_holds_and_the_control_plane_is_still_told_what_the_table_shows(
    hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts["alice"].table.write_text("uid,age\n7,007\n8,1\n")
    asked = request(hosts, "alice")
    asked["documents"]["task_config"]["column_types"] = {"people": COLUMNS}
    monkeypatch.setattr(preflight, "MEETING_SECONDS", 0.2)
    report = check(hosts["alice"].host, asked)
    assert list(errors(report)) == ["peers"]
    assert report["facts"]["dataset"]["columns"] == {"uid": "int", "age": "str"}


def test_it_says_which_peer_is_out_of_reach(hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    report = alone(hosts, monkeypatch)
    assert errors(report) == {"peers": "bob did not come to the meeting within 0.2 s"}
    assert [c["check"] for c in report["checks"]] == ALL, "the other checks are done all the same"
    assert next(c for c in report["checks"] if "error" in c)["error_type"] == "NetworkError"


@pytest.mark.parametrize("index", [0, 1])
def test_it_says_which_port_is_taken(hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    port = hosts["alice"].ports[index]
    with closing(socket.create_server(("127.0.0.1", port))):
        report = alone(hosts, monkeypatch)
    assert errors(report) == {"ports": f"port {port} is already in use on this host"}
    assert report["checks"][1]["error_type"] == "ResourceError"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("uid,age\np1,1\np1,2\n", {"data": "has 1 rows that repeat the uid of another row"}),
        ("uid,age\np1,1\n,2\n", {"data": "has 1 empty values"}),
        ("age\n1\n", {"dataset": "column 'uid' is gone"}),
        ("uid,age\np1,old\n", {"dataset": "column 'age' is str, not int"}),
        ("uid,age,name\np1,1.5,x\n", {}),
        # What is registered as text may be digits alone here
        ("uid,age\n110101199003071240,1\n110101199003071259,2\n", {}),
        ("\ufeffuid,age\np1,1\n", {}),
        ("uid,age\n", {"dataset": "dataset people has no rows"}),
        (",uid,age\n0,p1,1\n", {"dataset": "has no heading over column 1 of 3"}),
        ("uid;age\np1;1\n", {"dataset": 'separated by semicolons; save it with commas, or set delimiter = ";"'}),
        (None, {"dataset": "the file of dataset people is missing on this host"}),
    ],
)
def test_it_says_what_is_wrong_with_the_table(
    hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch, table: str | None, words: dict[str, str]
) -> None:
    if table is None:
        hosts["alice"].table.unlink()
    else:
        hosts["alice"].table.write_text(table)
    found = errors(alone(hosts, monkeypatch))
    found.pop("peers", None)
    assert set(found) == set(words)
    for name, text in words.items():
        assert text in found[name]


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        (b"uid;age\np1;1\n", 'delimiter = ";"', None),
        ("uid,age\n张三,1\n".encode("gbk"), 'encoding = "gb18030"', None),
        (b"uid,age\np1,1\np2,\np3,n.a.\n", 'types = {age = "int"}',
         "column 'age' of dataset people is declared int, and line 4 has something else than a whole number"),
        (b"uid,age\np1,1\n", 'types = {agee = "int"}', "did you mean 'age'?"),
    ],
)  # fmt: skip
def test_it_reads_a_table_as_party_toml_says(
    hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch, table: bytes, options: str, words: str | None
) -> None:
    hosts["alice"].table.write_bytes(table)
    with hosts["alice"].toml.open("a") as toml:
        toml.write(options)
    report = alone(hosts, monkeypatch)
    found = errors(report)
    found.pop("peers", None)
    assert "n.a." not in json.dumps(report), "a value left the host"
    if words is None:
        assert found == {}
        assert report["facts"]["dataset"]["columns"] == COLUMNS
    else:
        assert list(found) == ["dataset"]
        assert words in found["dataset"]


def test_it_refuses_what_its_policy_does(hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    hosts["alice"].toml.write_text(hosts["alice"].toml.read_text().replace('peers = ["*"]', 'peers = ["carol"]'))
    report = alone(hosts, monkeypatch)
    assert errors(report) == {"documents": "alice's policy does not allow computing with bob"}
    assert [c["check"] for c in report["checks"]] == ["documents"], "no stranger is called"


@pytest.mark.parametrize("what", ["MEMORY_BASE", "DISK_BASE"])
def test_it_says_what_is_short(hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(preflight, what, 2**60)
    found = errors(alone(hosts, monkeypatch))
    name = what.partition("_")[0].lower()
    assert f"{name} is short on this host" in found[name]


def test_it_never_raises(hosts: dict[str, Host]) -> None:
    wrong: tuple[Any, ...] = ({}, {"sf_init_config": 3}, {"sf_init_config": {}, "task_config": None})
    for documents in wrong:
        report = check(hosts["alice"].host, {"preflight": "1", "documents": documents})
        assert list(errors(report)) == ["documents"], documents


# --- at the worker's desk


class Answering:
    """What the desk asks of a compute process; it always says the same."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer, self.answered = answer, 0
        self.process = SimpleNamespace(poll=lambda: None)

    def ask(self, *_: Any) -> dict[str, Any]:
        self.answered += 1
        return self.answer


def desk_of(host: PartyHost, connection: Redis, starter: Any, worker: str = "alice-1") -> Desk:
    host.prepare_directories()
    return Desk(host, stream(connection, host.name), worker, starter, Intake(host))


def asked(request: dict[str, Any], name: str) -> bytes:
    """A request as the control plane signs it."""
    return signed_order(own_key(), PREFLIGHT, "alice", name, request).encode()


def starter(process: Any) -> Any:
    """Of which each process that is started is this one."""
    return SimpleNamespace(start=lambda _: process)


@pytest.mark.parametrize(
    ("left", "answered"), [(WANTED_SECONDS, True), (WANTED_SECONDS - TAKE_WITHIN - 1, False), (0, False)]
)
def test_a_worker_answers_what_is_still_wanted_alone(
    hosts: dict[str, Host], connection: Redis, left: int, answered: bool
) -> None:
    process = Answering({"checks": [], "facts": {}})
    name = "00000000-0000-4000-8000-000000000000"
    if left:
        connection.set(wanted(name), 1, ex=left)
    desk = desk_of(hosts["alice"].host, connection, starter(process))
    desk._answer(asked(request(hosts, "alice"), name))
    assert process.answered == answered
    assert connection.xlen("events:alice") == (2 if answered else 0)
    for malformed in (b"", b"{", b"[]", b'x {"preflight": "x"}', asked(request(hosts, "alice"), name)):
        desk._answer(malformed)
    assert process.answered == answered


def test_a_report_of_a_very_wide_table_goes_without_its_columns(hosts: dict[str, Host], connection: Redis) -> None:
    columns = {f"column_{n:07d}": "int" for n in range(60_000)}
    facts = {"cpus": 2, "dataset": {"name": "people", "columns": columns}}
    process = Answering({"checks": [{"check": "documents"}], "facts": facts})
    name = "00000000-0000-4000-8000-000000000000"
    connection.set(wanted(name), 1, ex=WANTED_SECONDS)
    desk = desk_of(hosts["alice"].host, connection, starter(process), "w" * 300)
    desk._answer(asked(request(hosts, "alice"), name))
    said = json.loads(connection.xrange("events:alice")[-1][1][b"preflight"])
    assert said == {
        "preflight": name, "worker": "w" * 200, "checks": [{"check": "documents"}],
        "facts": {"cpus": 2, "dataset": {"name": "people"}},
    }  # fmt: skip


def test_the_text_of_a_check_is_no_longer_than_the_control_plane_takes(
    hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = alone(hosts, monkeypatch, columns={f"a_column_{n:05d}": "int" for n in range(3000)})
    text = errors(found)["dataset"]
    assert len(text) == 4000
    assert text.startswith("dataset people is not as registered: column 'a_column_00000' is gone")
    assert text.endswith("characters; the rest is left out)")
