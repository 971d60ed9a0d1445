"""Nothing that a party's host sends, whatever is asked of it, names what it has and was not asked about by name."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from fixtures.documents import psi_documents
from tests.keys import stream
from workers.contract.errors import ConfigError
from workers.contract.wording import NOT_TOLD
from workers.host.gate import Gate
from workers.host.party import PartyHost
from workers.host.publication import describe
from workers.runtime import preflight
from workers.runtime.leftovers import Leftovers
from workers.runtime.task_run import Runtime, TaskRun

EXECUTION = "0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e"
#: All that is this host's own has this word in its name; rows have the second.
SECRET, ROWS = "zebrafish", "quagga"
PATIENTS, CONTROLS, SSN, AGE = (f"{SECRET}_{what}" for what in ("patients", "controls", "ssn", "age"))
TABLE = f"{SSN},{AGE},uid\n" + "".join(f"{ROWS}{i},{i},p{i}\n" for i in range(20))


class Host:
    """alice's host, on which everything has an unusual name."""

    def __init__(self, directory: Path, publish: str) -> None:
        self.directory = directory / f"{SECRET}_directory"
        self.directory.mkdir(mode=0o700)
        self.table = self.directory / f"{SECRET}_file.csv"
        self.table.write_text(TABLE)
        self.toml = self.directory / f"{SECRET}_party.toml"
        self.publish, self.entry = publish, ""
        self.write()

    def write(self, more: str = "") -> None:
        self.toml.write_text(
            f'party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\npublish = "{self.publish}"\n'
            f'[datasets.{PATIENTS}]\npath = "{self.table.name}"\n{more}\n'
            f'[datasets.{CONTROLS}]\npath = "no_{SECRET}.csv"\n'
        )

    def documents(self, **task: Any) -> dict[str, Any]:
        documents = psi_documents(PATIENTS) | {"spu_config": {}}
        documents["sf_init_config"] |= {
            "self_party": "alice",
            "job_name": f"{EXECUTION}-1",
            "cluster": {"alice": {"address": "127.0.0.1:1"}, "bob": {"address": "127.0.0.1:2"}},
        }
        nodes = [{"party": party, "address": f"127.0.0.1:{port}"} for party, port in (("alice", 3), ("bob", 4))]
        documents["spu_config"] = {"nodes": nodes}
        documents["task_config"] |= task
        return documents

    def told(self, documents: Any, connection: Redis | None = None) -> str:
        """All that leaves the host in pre-flight checks of the documents and in a run of them."""
        host = PartyHost.from_message(self.message)
        with (
            patch.object(preflight, "check_ports", lambda *_: None),
            patch.object(preflight, "meet_peers", lambda *_, **__: None),
            patch.object(TaskRun, "_start_cluster", _no_cluster),
            patch.dict(os.environ, TMPDIR=str(self.directory)),
            patch.object(tempfile, "tempdir", None),  # a run changes it
        ):
            report = preflight.check(host, {"preflight": "1", "documents": documents})
            report.pop("known")
            if connection is None:
                return json.dumps(report)
            connection.delete("events:alice")
            here = os.getcwd()
            try:
                answer = TaskRun(Runtime(host, stream(connection, "alice"), "alice-1"), EXECUTION, documents).execute()
            finally:
                os.chdir(here)
        assert answer["status"] == "failure"
        events = [entry for _, entry in connection.xrange("events:alice")]
        return json.dumps([report, answer, [{k.decode(): v.decode() for k, v in entry.items()} for entry in events]])

    @property
    def message(self) -> dict[str, str]:
        return self._message

    def load(self) -> Host:
        self._message = PartyHost.load(self.toml).as_message()
        return self


def _no_cluster(*_: Any) -> None:
    raise ConfigError("the test ends here")


def new_names(told: str, documents: Any) -> list[str]:
    """The host's words in what was told that the documents do not have."""
    asked = json.dumps(documents)
    words = re.findall(r"\w+", re.sub(r"\\+[nt]", " ", told))
    return sorted({w for w in words if (SECRET in w and w not in asked) or ROWS in w})


@pytest.fixture(params=["nothing", "columns"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(tmp_path, request.param).load()


def keys(*columns: str) -> dict[str, Any]:
    return {
        "algorithm_params": {
            "psi_params": {"input_keys": {"alice": [*columns], "bob": ["uid"]}, "receivers": ["alice", "bob"]}
        }
    }


WRONG_TASKS: dict[str, dict[str, Any]] = {
    "no such dataset": {"data_sources": {"alice": "zzz", "bob": "x"}},
    "nearly a dataset": {"data_sources": {"alice": PATIENTS[:-1], "bob": "x"}},
    "no such further source": {"further_sources": {"model": {"alice": "zzz"}}},
    "a dataset without its file": {"data_sources": {"alice": CONTROLS, "bob": "x"}},
    "an output that is a dataset": {"outputs": {"alice": PATIENTS, "bob": "x"}},
    "no such column": keys("zzz"),
    "nearly a column": keys(SSN[:-1]),
    "columns of other words": keys("ssn", "age"),
    "a text where a number belongs": {
        "task_type": "lr",
        "outputs": {},
        "algorithm_params": {
            "ml_params": {
                "features": {"alice": [SSN], "bob": ["x"]},
                "label": {"party": "bob", "column": "y"},
                "model_type": "logistic_regression",
            }
        },
    },
    "groups of rows": {
        "task_type": "group_by",
        "outputs": {},
        "algorithm_params": {
            "group_by_params": {
                "by": {"alice": [SSN]},
                "aggregates": [{"party": "bob", "column": "x", "function": "SUM"}],
                "most_groups": 2,
            }
        },
    },
    "a column of a component": {
        "task_type": "component",
        "outputs": {},
        "algorithm_params": {
            "component_params": {
                "component": "stats/ss_vif",
                "columns": {"input_data": {"features": {"alice": ["zzz"], "bob": ["x"]}}},
            }
        },
    },
    "nothing at all": {"data_sources": {}},
}


@pytest.mark.parametrize("name", WRONG_TASKS)
def test_wrong_documents_bring_out_no_name(host: Host, connection: Redis, name: str) -> None:
    documents = host.documents(**WRONG_TASKS[name])
    told = host.told(documents, connection)
    assert "FAILURE" in told
    assert not new_names(told, documents) or only_columns(host, told, documents)


def only_columns(host: Host, told: str, documents: Any) -> bool:
    """Where the policy tells columns, those of the table that the documents name are no secret."""
    return host.publish == "columns" and set(new_names(told, documents)) <= {SSN, AGE, f"{SSN}_x"}


WRONG_TABLES: dict[str, bytes | None] = {
    "a column twice": f"uid,{SSN},{SSN}\n1,2,3\n".encode(),
    "another delimiter": TABLE.replace(",", ";").encode(),
    "another delimiter of few": f"uid;{SSN}\n1;{ROWS}\n".encode(),
    "a column without a name": f"uid,{SSN},\n1,2,3\n".encode(),
    "a name with a quote": f'uid,"{SSN}""x"\n1,2\n'.encode(),
    "a name with a tab": f"uid,{SSN}\tx\n1,2\n".encode(),
    "utf-16": TABLE.encode("utf-16"),
    "not text": b"\0\1\2\3\xff" * 100,
    "a line that does not fit": TABLE.encode() + f"{ROWS},{ROWS},{ROWS},{ROWS}\n".encode(),
    "no rows": f"uid,{SSN}\n".encode(),
    "keys twice": TABLE.encode() + TABLE.partition("\n")[2].encode(),
    "nothing": b"",
    "blank lines": TABLE.replace("\n", "\n\n").encode(),
    "gone": None,
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_wrong_tables_bring_out_no_name(host: Host, connection: Redis, name: str) -> None:
    if (content := WRONG_TABLES[name]) is None:
        host.table.unlink()
    else:
        host.table.write_bytes(content)
    documents = host.documents()
    told = host.told(documents, connection)
    assert not new_names(told, documents) or only_columns(host, told, documents)
    assert ROWS not in told


WRONG_TOML = {
    "no TOML": f"[{SECRET}\n{SECRET} = ",
    "an unknown key": f'{SECRET} = "x"',
    "an unknown type": f'types = {{{SSN} = "{SECRET}"}}',
    "a type of no column": f'types = {{{SSN}_x = "str"}}',
    "a type that does not fit": f'types = {{{SSN} = "int"}}',
    "another encoding": 'encoding = "utf-16"',
    "another delimiter": 'delimiter = "|"',
    "the wrong type": f"alignment = {{x = 1, {SECRET} = 2}}",
}


@pytest.mark.parametrize("name", WRONG_TOML)
def test_a_wrong_party_toml_brings_out_no_name(host: Host, connection: Redis, name: str) -> None:
    host.write(WRONG_TOML[name])
    documents = host.documents()
    told = host.told(documents, connection)
    assert "FAILURE" in told
    assert not new_names(told, documents) or only_columns(host, told, documents)


@pytest.mark.parametrize("what", ["gone", "not writable", "file"])
def test_directories_that_are_not_there_bring_out_no_path(host: Host, connection: Redis, what: str) -> None:
    outputs = host.directory / "outputs"
    if what == "gone":
        host.toml.unlink()
    elif what == "file":
        outputs.write_text("")
    else:
        outputs.mkdir(mode=0o700)
        (outputs / ".work").write_text("")
    documents = host.documents()
    assert not new_names(host.told(documents), documents)


def test_the_log_of_the_host_has_all_of_it(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.table.write_text(f"uid,{SSN},{SSN}\n1,2,3\n")
    host.write(f'{SECRET} = "x"')
    host.told(host.documents())
    assert f"datasets.{PATIENTS}.{SECRET}: unknown key" in caplog.text
    host.write()
    host.told(host.documents())
    assert ("(not told)" in host.told(host.documents())) == (host.publish == "nothing")
    assert host.publish == "columns" or f"has column '{SSN}' twice" in caplog.text


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    if isinstance(value, dict):
        found += [path for key in value for path in paths(value[key], (*at, key))]
    elif isinstance(value, list):
        found += [path for index, one in enumerate(value) for path in paths(one, (*at, index))]
    return found


WORDS = st.sampled_from(
    ["zzz", "ssn", "patients", "zebra", "/etc/passwd", "../x", "*", "", "alice", "bob", "uid", SSN[:-1], PATIENTS[:-2]]
)
ANYTHING = st.recursive(
    WORDS | st.integers() | st.booleans() | st.none() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_documents_at_all_bring_out_a_name(host: Host, data: st.DataObject) -> None:
    task = data.draw(st.sampled_from(list(WRONG_TASKS.values())))
    documents: Any = json.loads(json.dumps(host.documents(**task)))
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(paths(documents)))
        place = documents
        for step in parents:
            place = place[step]
        if isinstance(place, dict) and data.draw(st.booleans()):
            place[data.draw(WORDS)] = place.pop(last)
        else:
            place[last] = data.draw(ANYTHING)
    told = host.told(documents)
    assert not new_names(told, documents) or only_columns(host, told, documents)


def test_a_result_names_no_columns_of_an_output_that_nobody_named(host: Host, connection: Redis) -> None:
    runtime = Runtime(PartyHost.load(host.toml), stream(connection, "alice"), "alice-1")
    run = TaskRun(runtime, EXECUTION, host.documents())
    run.host.prepare_directories()
    made = run.host.output_dir / ".made.csv"
    made.write_text("\n".join(f"{line},{i or 'prediction'}" for i, line in enumerate(TABLE.splitlines())))
    source = run.host.dataset(PATIENTS)
    context = type("Context", (), {"task": _Task(), "sources": {"": source}})()
    run._keep_output(context, made)
    columns = run.kept["common"]["columns"]
    # What the run made is no secret of the table's
    assert set(columns) == {"uid", "prediction"} | ({SSN, AGE} if host.publish == "columns" else set())
    run.publisher.publish("SUCCESS", "task_execution", result={"warnings": [f"{SSN} and {PATIENTS} of {made}"]})
    told = b"".join(entry[b"event"] for _, entry in connection.xrange("events:alice")).decode()
    assert not [word for word in (CONTROLS, str(host.directory)) if word in told]
    assert (SSN in told) == (host.publish == "columns")


class _Task:
    outputs = {"alice": "common"}
    further_outputs: dict[str, Any] = {}


def test_what_is_published_of_datasets_has_no_path(tmp_path: Path) -> None:
    host = Host(tmp_path, "columns").load()
    told = json.dumps(describe(PartyHost.load(host.toml)))
    assert str(tmp_path) not in told
    assert host.table.name not in told


def test_names_of_files_that_no_run_made_are_not_asked_for(host: Host) -> None:
    found = PartyHost.load(host.toml)
    found.prepare_directories()
    (found.output_dir / f"{SECRET}_x.csv").write_text("a\n1\n")
    asked = Leftovers(found, 0).outputs()
    assert list(asked) == ([] if host.publish == "nothing" else [f"{SECRET}_x"])


def test_an_event_costs_no_look_at_all_outputs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run sends dozens of events, and a host may have kept many thousands of outputs."""
    found = PartyHost.load(host.toml)
    found.prepare_directories()
    for name in (f"{SECRET}_x.csv", f"{SECRET} y.csv", f"{SECRET}_z.kept"):
        (found.output_dir / name).write_text("a\n1\n")
    gate = Gate(found, {"outputs": f"{SECRET}_named"})
    monkeypatch.setattr(PartyHost, "outputs", lambda self: pytest.fail("all of them were listed"))
    said = [
        f"{SECRET}_x",
        f"of {SECRET}_z!",
        f"{SECRET} y",
        f"{SECRET}_named",
        f"{SECRET}_no",
        host.table.name,
        PATIENTS,
    ]
    told = [NOT_TOLD, f"of {NOT_TOLD}!", NOT_TOLD, f"{SECRET}_named", f"{SECRET}_no", NOT_TOLD, NOT_TOLD]
    assert gate.scrubbed(said) == told
