"""Publishing of a host's tables: each is registered or refused for itself, and the host is told which."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pydantic import ValidationError
from redis import Redis

from controlplane.environment import environment
from controlplane.models import Dataset, Party
from executions.coordinator.listener import Listener
from executions.coordinator.reports import TableReport
from tests.keys import introduce, send
from workers.contract import reports
from workers.contract.events import REPORT_LIMIT
from workers.contract.keys import answers_to, stream_of
from workers.host import publication as datasets
from workers.host.party import PartyHost

COLUMNS = {"uid": "str", "age": "int"}
PEOPLE = "uid,age\n" + "".join(f"p{i},{i}\n" for i in range(20))


class Alice:
    """Alice's directory, with a table that is as it should be."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.policy = directory, ""
        self.toml = directory / "party.toml"
        self.write(people=PEOPLE)

    def write(self, policy: str = "", **tables: str) -> None:
        """These tables beside those that are there."""
        self.policy = policy or self.policy
        for name, text in tables.items():
            (self.directory / f"{name}.csv").write_text(text)
        names = sorted(path.stem for path in self.directory.glob("*.csv"))
        registered = "".join(f'[datasets.{name}]\npath = "{name}.csv"\n' for name in names)
        policy = f'[policy]\ntask_types = ["*"]\npeers = ["*"]\n{self.policy}\n'
        self.toml.write_text(f'party = "alice"\n{policy}{registered}')
        introduce(self.toml)


@pytest.fixture
def alice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alice:
    found = Alice(tmp_path)
    monkeypatch.setattr(environment, "party_toml", found.toml)
    return found


@pytest.fixture
def coordinated(connection: Redis, parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinator reads what is published at once; beside the tests another process would not see their database."""
    sending = datasets.publish

    def publish(*args: Any) -> str:
        publication = sending(*args)
        listener = Listener(connection)
        while connection.xlen(stream_of("alice")):  # a step does no more than its share of large reports
            listener.step()
        return publication

    monkeypatch.setattr(datasets, "publish", publish)


@pytest.fixture
def published(alice: Alice, coordinated: None) -> Callable[[], dict[str, Dataset]]:
    def publish() -> dict[str, Dataset]:
        call_command("publish_datasets")
        return {d.name: d for d in Dataset.objects.filter(party__name="alice")}

    return publish


def refused() -> list[str]:
    """How the command ends."""
    with pytest.raises(CommandError) as caught:
        call_command("publish_datasets")
    return str(caught.value).splitlines()


def test_one_command_registers_what_a_host_has(published: Any, alice: Alice, capsys: Any) -> None:
    found = published()
    assert found["people"].columns == COLUMNS
    assert (found["people"].reported_rows, found["people"].drift) == (None, [])
    assert "uid str, age int" in capsys.readouterr().out
    assert found["customers"].drift == ["the party's host has no such dataset: it is not in its party.toml"]
    alice.write('publish = "counts"', people="uid,age,name\n1,2.5,x\n")
    changed = published()["people"]
    assert changed.columns == COLUMNS, "what is registered changes by an operator's hand alone"
    assert changed.reported_rows == 1
    # PostgreSQL keeps no order of keys
    assert set(changed.drift) == {
        "column 'uid' is int, not str",
        "column 'age' is float, not int",
        "column 'name' is new",
    }


def test_it_says_which_table_cannot_be_read(published: Any, alice: Alice) -> None:
    published()
    (alice.directory / "people.csv").unlink()
    assert refused() == [
        "people was not registered: the file of dataset people is missing on this host; check party.toml"
    ]
    assert "is missing on this host" in Dataset.objects.get(name="people").drift[0]


def test_it_publishes_nothing_where_the_policy_says_so(published: Any, alice: Alice, connection: Redis) -> None:
    alice.write('publish = "nothing"')
    with pytest.raises(CommandError, match='publish = "nothing"'):
        published()
    assert not connection.exists("events:alice")


def test_it_leaves_alone_what_an_execution_made(published: Any, parties: dict[str, Party]) -> None:
    made = Dataset.objects.create(
        party=parties["alice"], name="people", columns={"x": "int"}, produced_by="00000000-0000-4000-8000-000000000000"
    )
    assert refused() == ["people was not registered: an execution's output has this name; rename one of the two"]
    made.refresh_from_db()
    assert (made.columns, made.reported_at) == ({"x": "int"}, None)


def test_it_says_that_redis_is_away(published: Any, alice: Alice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "redis_url", "redis://user:secretpw@127.0.0.1:1/0")
    with pytest.raises(CommandError, match="Redis is not reachable") as refused:
        call_command("publish_datasets")
    assert "secretpw" not in str(refused.value)


# --- each table for itself


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        (",id,x", "has no heading over column 1 of 3; name the column, or leave it out (pandas writes its index so: "
         "use to_csv(index=False))"),
        ("id," + "x" * 201, "cannot be registered: the name of column 2 has 201 characters; shorten it to 200 at most"),
        ("id,a\tb,c", "cannot be registered: the name of column 2, 'a\\tb', holds a character that cannot be "
         "printed, such as a tab; rename the column"),
    ],
    ids=["unnamed", "long", "tab"],
)  # fmt: skip
def test_a_bad_table_keeps_no_other_from_being_registered(
    alice: Alice, coordinated: None, capsys: Any, heading: str, words: str
) -> None:
    cells = ",".join("1" * len(heading.split(",")))
    alice.write(bad=f"{heading}\n{cells}\n", zoo="uid,legs\na,4\n")
    assert refused() == [f"bad was not registered: dataset bad {words}"]
    assert {d.name: d.columns for d in Dataset.objects.filter(party__name="alice", reported_problem="")} == {
        "people": COLUMNS, "zoo": {"uid": "str", "legs": "int"},
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert shown.count("registered") == 2 + words.count("registered")
    assert "no answer" not in shown


def test_a_known_dataset_that_went_bad_says_so_on_its_page(published: Any, alice: Alice) -> None:
    published()
    alice.write(people=",uid,age\n0,a,1\n")
    assert len(refused()) == 1
    people = Dataset.objects.get(name="people")
    assert people.columns == COLUMNS
    assert "has no heading over column 1 of 3" in people.drift[0]


def test_it_says_what_differs_from_what_is_registered(published: Any, alice: Alice, capsys: Any) -> None:
    published()
    alice.write(people="uid,income\na,1\n")
    published()
    assert "differs: column 'age' is gone; column 'income' is new" in " ".join(capsys.readouterr().out.split())


def test_it_says_that_nobody_answered(alice: Alice, connection: Redis, db: None) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("publish_datasets", wait=0.2)
    assert str(caught.value) == (
        "no coordinator answered for people within 0.2 s. What was published is registered when one reads it: "
        "is `manage.py coordinate` running, is alice a party there?"
    )
    call_command("publish_datasets", wait=0)  # who expects none is told nothing


def test_many_and_wide_tables_go_in_several_reports(alice: Alice, coordinated: None, connection: Redis) -> None:
    wide = {f"wide_{n}": [f"feature_{n}_{'x' * 150}_{c}" for c in range(2500)] for n in range(4)}
    for name, columns in wide.items():
        alice.write(**{name: f"{','.join(columns)}\n{','.join('1' * len(columns))}\n"})
    call_command("publish_datasets")
    found = {d.name: list(d.columns) for d in Dataset.objects.filter(party__name="alice", reported_problem="")}
    assert {name: sorted(columns) for name, columns in found.items()} == {
        "people": ["age", "uid"], **{name: sorted(columns) for name, columns in wide.items()},
    }  # fmt: skip


def test_a_table_too_wide_for_a_report_is_refused_in_words(alice: Alice, coordinated: None) -> None:
    columns = [f"c{c:07d}" for c in range(90_000)]
    alice.write(wide=f"{','.join(columns)}\n{','.join('1' * len(columns))}\n")
    [line] = refused()
    assert "the names of its 90,000 columns take 1," in line
    assert "register a table with fewer columns" in line
    assert Dataset.objects.filter(name="people", reported_problem="").exists()


def test_what_a_host_no_longer_has_is_marked_whatever_the_number_of_reports(published: Any, alice: Alice) -> None:
    alice.write(zoo="uid,legs\na,4\n")
    assert published()["zoo"].drift == []
    (alice.directory / "zoo.csv").unlink()
    alice.write()
    assert published()["zoo"].drift == ["the party's host has no such dataset: it is not in its party.toml"]
    assert published()["people"].drift == []


# --- the coordinator trusts no host


def tell(connection: Redis, **content: Any) -> dict[str, Any]:
    """What a coordinator answers to what a host may write."""
    publication = "00000000-0000-4000-8000-000000000001"
    send(connection, "alice", datasets=json.dumps({"publication": publication, "told_at": time.time()} | content))
    Listener(connection).step()
    names = set(content["datasets"])
    return datasets.verdicts(connection, "alice", publication, names, 0.1)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"columns": {"": "int"}}, "columns: column 1 has no name"),
        ({"columns": {"x" * 201: "int"}}, "has 201 characters"),
        ({"columns": {"a\tb": "int"}}, "cannot be printed"),
        ({"columns": {}}, "it has no columns"),
        ({}, "it has no columns"),
        ([], "should be an object"),
        ("x", "should be an object"),
        ({"columns": {"a": 1}}, "should be text"),
        ({"columns": {"a": "int"}, "rows": -1}, "rows: "),
        ({"error": "x" * 501}, "error: "),
        ({"error": "is missing"}, "is missing"),
    ],
)
def test_it_answers_for_each_table(parties: dict[str, Party], connection: Redis, table: Any, words: str) -> None:
    answers = tell(connection, datasets={"bad": table, "../x": {"columns": COLUMNS}, "good": {"columns": COLUMNS}})
    assert {name: answer["verdict"] for name, answer in answers.items()} == {
        "bad": "refused", "../x": "refused", "good": "registered",
    }  # fmt: skip
    assert words in answers["bad"]["problem"]
    assert "Use letters, digits" in answers["../x"]["problem"]
    assert [d.name for d in Dataset.objects.filter(party__name="alice")] == ["customers", "good"]


def test_it_keeps_a_limited_number_of_datasets(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_DATASETS", 3)  # one is there already
    answers = tell(connection, datasets={f"t{n}": {"columns": COLUMNS} for n in range(3)})
    assert [answers[f"t{n}"]["verdict"] for n in range(3)] == ["registered", "registered", "refused"]
    assert "at most 3 datasets" in answers["t2"]["problem"]


def test_a_key_of_another_kind_in_the_answers_place_stops_nobody(parties: dict[str, Party], connection: Redis) -> None:
    connection.set(answers_to("alice", "00000000-0000-4000-8000-000000000001"), "junk")
    for name in ("x", "y"):
        report = {"publication": "00000000-0000-4000-8000-000000000001", "told_at": 1e9}
        send(connection, "alice", datasets=json.dumps(report | {"datasets": {name: {"columns": COLUMNS}}}))
    Listener(connection).step()
    assert Dataset.objects.filter(name="y").exists()
    assert connection.xlen(stream_of("alice")) == 0


def test_the_host_refuses_what_the_control_plane_would(alice: Alice) -> None:
    alice.write(bad=",id\n1,2\n")
    found = datasets.describe(PartyHost.load(alice.toml))
    assert found["bad"]["error"].startswith("dataset bad has no heading over column 1 of 2")
    assert len(json.dumps(found)) < REPORT_LIMIT


def test_it_publishes_an_alignment_that_party_toml_declares(published: Any, alice: Alice) -> None:
    assert published()["people"].alignment == ""
    with alice.toml.open("a") as toml:
        toml.write('alignment = "by-uid"\n')
    assert published()["people"].alignment == "declared:by-uid"


def test_no_report_makes_an_alignment_of_an_execution() -> None:
    table = {"columns": {"uid": "str"}, "alignment": "0b5e0b5e-0b5e-0b5e-0b5e-0b5e0b5e0b5e-1"}
    with pytest.raises(ValidationError, match="alignment"):
        TableReport.model_validate(table)


def test_it_publishes_a_table_as_party_toml_says(published: Callable[[], dict[str, Dataset]], alice: Alice) -> None:
    alice.write('publish = "counts"', people="")
    (alice.directory / "people.csv").write_bytes("身份证;age\n110101199003071240;1\n".encode("gbk"))
    with alice.toml.open("a") as toml:
        toml.write('encoding = "gb18030"\ndelimiter = ";"\ntypes = {"身份证" = "str"}\n')
    found = published()["people"]
    assert found.columns == {"身份证": "str", "age": "int"}
    assert found.reported_rows == 1
    assert list(alice.directory.glob("outputs/.work/publish*")) == [], "the converted copy is gone"
