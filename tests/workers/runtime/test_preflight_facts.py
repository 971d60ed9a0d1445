"""What pre-flight checks found out a moment ago about the same files is not read again, and changes are always seen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pyarrow import csv
from redis import Redis

from tests.workers.runtime.test_preflight_at_the_host import TABLE, Host, desk_of, errors, request, starter, unused_port
from tests.workers.runtime.test_preflight_at_the_host import asked as order
from workers.contract.errors import ConfigError, ResourceError
from workers.contract.keys import wanted
from workers.contract.reports import WANTED_SECONDS
from workers.host import known as remembered
from workers.host.key_columns import check_keys
from workers.host.known import KnownFacts
from workers.host.tables import column_types
from workers.runtime import facts, preflight
from workers.runtime.preflight import check


class Worker:
    """alice's, with a desk; each check is done as by a process of its own, which remembers nothing."""

    def __init__(self, host: Host, connection: Redis) -> None:
        self.host, self.connection = host, connection
        self.desk = desk_of(host.host, connection, starter(self))
        self.asked: dict[str, Any] = {}
        # As a compute process
        self.answered = 0
        self.process = SimpleNamespace(poll=lambda: None)

    def ask(self, question: dict[str, Any], *_: Any) -> Any:
        self.asked = json.loads(json.dumps(question["preflight"]))
        remembered._known = KnownFacts()
        return json.loads(json.dumps(check(self.host.host, self.asked)))

    def report(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """What the control plane is told, but for what bob, who is away, has to do with."""
        name = str(uuid4())
        self.connection.set(wanted(name), 1, ex=WANTED_SECONDS)
        self.desk._answer(order(dict(question), name))
        said: dict[str, Any] = json.loads(self.connection.xrevrange("events:alice", count=1)[0][1][b"preflight"])
        del said["preflight"]
        said["checks"] = [found for found in said["checks"] if found["check"] != "peers"]
        for changing in ("free_memory", "free_disk"):
            said["facts"].pop(changing, None)
        return said


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Host]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(preflight, "MEETING_SECONDS", 0.05)
    return {name: Host(tmp_path, name) for name in ("alice", "bob")}


@pytest.fixture
def worker(hosts: dict[str, Host], connection: Redis) -> Worker:
    return Worker(hosts["alice"], connection)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tables that are opened, each time that one is."""
    opened: list[str] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            opened.extend([Path(path).name] if Path(path).suffix == ".csv" else [])
            return function(path, *args, **options)

        return call

    monkeypatch.setattr(csv, "open_csv", noted(csv.open_csv))
    monkeypatch.setattr(csv, "read_csv", noted(csv.read_csv))
    monkeypatch.setattr(Path, "open", noted(Path.open))
    return opened


def with_params(hosts: dict[str, Host], task_type: str = "psi", **params: Any) -> dict[str, Any]:
    asked = request(hosts, "alice")
    [(key, known)] = asked["documents"]["task_config"]["algorithm_params"].items()
    asked["documents"]["task_config"]["algorithm_params"] = {key: known | params}
    return asked


def test_a_table_is_read_for_the_first_check_alone(worker: Worker, hosts: dict[str, Host], reads: list[str]) -> None:
    first = worker.report(request(hosts, "alice"))
    assert errors(first) == {}
    assert set(reads) == {"people.csv"}
    reads.clear()
    again = request(hosts, "alice")
    again["documents"]["sf_init_config"]["job_name"] = "y-1"
    for layer, key in (("sf_init_config", "cluster"), ("spu_config", "nodes")):  # on other ports
        text = json.dumps(again["documents"][layer][key])
        for port in (port for host in hosts.values() for port in host.ports):
            text = text.replace(f":{port}", f":{unused_port()}")
        again["documents"][layer][key] = json.loads(text)
    again["documents"]["task_config"]["outputs"] = {"alice": "another", "bob": "another"}
    assert worker.report(again) == first
    assert reads == []


def test_what_is_wrong_with_the_keys_is_not_looked_for_again(
    worker: Worker, hosts: dict[str, Host], reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts["alice"].table.write_text(TABLE + "p1,7\n")
    first = worker.report(request(hosts, "alice"))
    assert "has 1 rows that repeat the uid of another row" in errors(first)["data"]
    reads.clear()
    assert worker.report(request(hosts, "alice")) == first
    assert reads == []
    with monkeypatch.context() as patch:
        patch.setattr(facts, "WRONG_SECONDS", 0)
        assert worker.report(request(hosts, "alice")) == first
    assert reads, "after a while it is"
    assert errors(worker.report(with_params(hosts, duplicate_keys=["alice"]))) == {}, "that is another question"


def test_of_another_task_the_columns_and_rows_are_known(
    worker: Worker, hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts["alice"].write('publish = "counts"')
    first = worker.report(request(hosts, "alice"))
    monkeypatch.setattr(type(hosts["alice"].host), "describe", None)
    other = worker.report(with_params(hosts, input_keys={"alice": ["age"], "bob": ["age"]}))
    assert errors(other) == {}
    assert other["facts"] == first["facts"]


@pytest.mark.parametrize(
    "how", ["appended to", "replaced, as old and as large", "written over, and its time set back", "touched"]
)
def test_a_table_that_was_changed_is_read_again(
    worker: Worker, hosts: dict[str, Host], reads: list[str], how: str
) -> None:
    table = hosts["alice"].table
    assert errors(worker.report(request(hosts, "alice"))) == {}
    before, repeated = table.stat(), TABLE.replace("p2,", "p1,")
    if how == "appended to":
        with table.open("a") as file:
            file.write("p1,7\n")
    elif how.startswith("replaced"):
        table.with_name("new").write_text(repeated)
        os.utime(table.with_name("new"), ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(table.with_name("new"), table)
    elif how.startswith("written over"):
        table.write_text(repeated)
        os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        table.touch()
    reads.clear()
    found = errors(worker.report(request(hosts, "alice")))
    assert reads
    assert list(found) == ([] if how == "touched" else ["data"])


def test_what_party_toml_says_now_holds_at_once(worker: Worker, hosts: dict[str, Host]) -> None:
    hosts["alice"].write('publish = "counts"')
    assert worker.report(request(hosts, "alice"))["facts"]["dataset"]["rows"] == 20
    hosts["alice"].write('publish = "columns"')
    assert "rows" not in worker.report(request(hosts, "alice"))["facts"]["dataset"]
    with hosts["alice"].toml.open("a") as toml:
        toml.write('types = {age = "bool"}')
    found = errors(worker.report(request(hosts, "alice")))
    assert "column 'age' of dataset people is declared bool, and line 4 has something else" in found["dataset"]


def test_a_table_in_another_form_is_copied_for_the_first_check_alone(
    worker: Worker, hosts: dict[str, Host], reads: list[str]
) -> None:
    hosts["alice"].table.write_text(TABLE.replace(",", ";"))
    with hosts["alice"].toml.open("a") as toml:
        toml.write('delimiter = ";"')
    first = worker.report(request(hosts, "alice"))
    assert errors(first) == {}
    assert "table_0.csv" in reads
    reads.clear()
    assert worker.report(request(hosts, "alice")) == first
    assert reads == []


def test_what_may_pass_is_not_remembered(
    worker: Worker, hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ResourceError("no memory now")

    with monkeypatch.context() as patch:
        patch.setattr(preflight, "_validate", fail)
        assert errors(worker.report(request(hosts, "alice"))) == {"data": "no memory now"}
    assert errors(worker.report(request(hosts, "alice"))) == {}


def test_a_table_that_is_written_to_while_it_is_read_is_read_again(
    worker: Worker, hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = preflight._validate

    def meanwhile(*args: Any) -> None:
        validate(*args)
        hosts["alice"].table.write_text(TABLE + "p1,7\n")

    with monkeypatch.context() as patch:
        patch.setattr(preflight, "_validate", meanwhile)
        assert errors(worker.report(request(hosts, "alice"))) == {}
    assert list(errors(worker.report(request(hosts, "alice")))) == ["data"]


def test_the_worker_keeps_to_itself_what_it_remembers(
    worker: Worker, hosts: dict[str, Host], connection: Redis
) -> None:
    worker.report(request(hosts, "alice", known={"planted": {"found": {}}}))
    assert worker.asked["known"] == {}, "whoever writes to Redis cannot say what is known"
    worker.report(request(hosts, "alice"))
    assert '"rows": 20' in json.dumps(worker.asked["known"])
    for _, said in connection.xrange("events:alice"):
        assert set(json.loads(said[b"preflight"])) <= {"preflight", "worker", "checks", "facts"}
        assert b'"rows"' not in said[b"preflight"], "which this party does not publish"
    assert "p1" not in json.dumps(worker.asked["known"])


def test_a_job_does_not_look_for_repeated_keys_again(worker: Worker, hosts: dict[str, Host], reads: list[str]) -> None:
    table = hosts["alice"].table
    assert errors(worker.report(request(hosts, "alice"))) == {}
    handed = json.loads(json.dumps(worker.desk.known_for_a_job()))
    assert handed
    assert "rows" not in json.dumps(handed), "what is known of whole runs is of no use to it"
    remembered._known = KnownFacts()  # as in the process of the job
    remembered.begin(handed)
    reads.clear()
    check_keys(table, "people", ["uid"])
    assert column_types(table, "people") == {"uid": "str", "age": "int"}
    assert reads == []
    table.write_text(TABLE + "p1,7\n")
    with pytest.raises(ConfigError, match="has 1 rows that repeat"):
        check_keys(table, "people", ["uid"])


def test_a_job_is_handed_little_and_what_was_used_last() -> None:
    known = KnownFacts()
    known.learn({"file a": "x" * 40_000, "file b": "x" * 40_000, "of a run": "x" * 70_000, "file c": 1})
    assert known.for_a_job().keys() == {"file c", "file b"}


def test_a_worker_remembers_what_was_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KnownFacts, "MOST", 3)
    known = KnownFacts()
    known.learn({"a": 1, "b": 2, "c": 3})
    known.learn({"a": 1, "d": 4})
    assert known.as_message() == {"c": 3, "a": 1, "d": 4}
    monkeypatch.setattr(KnownFacts, "MOST_CHARACTERS", 100)
    known.learn({"e": "x" * 90})
    assert known.as_message() == {"a": 1, "d": 4, "e": "x" * 90}
    known.learn({"f": "x" * 200})
    assert known.as_message() == {}
