"""``manage.py party init``, ``check``, ``show`` and ``keys``, which write a party.toml, look at it and explain it."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from datetime import date, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from controlplane.environment import environment
from workers.contract.signing import Signer
from workers.host.party import PartyHost

STRANGER = "ed25519:" + "A" * 43 + "="


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "etc" / "party.toml"
    monkeypatch.setattr(environment, "party_toml", path)
    return path


def party(*words: str) -> str:
    out = StringIO()
    call_command("party", *words, stdout=out)
    return out.getvalue()


def answering(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """What is asked, by a terminal at which somebody gives these answers and then leaves."""
    asked: list[str] = []
    left: Iterator[str] = iter(answers)

    def answer(question: str) -> str:
        asked.append(question)
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", answer)
    return asked


SAID = ["--party", "alice", "--peers", "bob", "--task-types", "psi", "lr"]


# --- init


def test_it_writes_a_file_by_options(toml: Path, tmp_path: Path) -> None:
    key = Signer.create(tmp_path / "k").public_key
    (tmp_path / 'a "b".csv').write_text("uid\n1\n")
    table = ["--dataset", "a", str(tmp_path / 'a "b".csv'), "--dataset", "b", "b.csv"]
    assert f"wrote {toml}" in party("init", *SAID, *table, "--control-plane-key", key, "--approve", "ask", "--yes")
    assert toml.stat().st_mode & 0o777 == 0o600
    host = PartyHost.load(toml)
    assert (host.name, host.policy.peers, host.policy.task_types) == ("alice", ["bob"], ["psi", "lr"])
    assert (host.policy.publish, host.policy.security, host.policy.approve) == ("columns", "production", "ask")
    assert host.registered()["a"].path == tmp_path / 'a "b".csv'
    assert host.registered()["b"].path == toml.parent / "b.csv"
    assert host.orders.key_ids


def test_it_asks_for_what_no_option_says(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, "alice", "bob, carol", "psi", "nothing", "", "people", "/srv/people.csv", "", "")
    party("init")
    host = PartyHost.load(toml)
    assert (host.name, host.policy.peers) == ("alice", ["bob", "carol"])
    assert (host.policy.publish, host.policy.approve) == ("nothing", "never")
    assert list(host.registered()) == ["people"]
    assert asked[0].startswith("Name of this party")
    assert len(asked) == 9


def test_it_replaces_no_file(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.parent.mkdir()
    toml.write_text("mine")
    asked = answering(monkeypatch)
    for words in (["init"], ["init", *SAID, "--yes"]):
        with pytest.raises(CommandError, match="exists already; edit it, or set PARTY_TOML"):
            party(*words)
    toml.unlink()
    toml.symlink_to(toml.parent / "elsewhere")
    with pytest.raises(CommandError, match="exists already"):
        party("init", *SAID, "--yes")
    assert not (toml.parent / "elsewhere").exists()
    assert asked == []


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--yes"], "--party is missing"),
        (["--party", "alice", "--yes"], "--peers is missing"),
        (["--party", "Alice", *SAID[2:], "--yes"], "party: is not a valid name"),
        ([*SAID, "--control-plane-key", "x", "--yes"], r"control_plane\.keys\.0: is no public signing key"),
        ([*SAID, "--dataset", "a b", "x.csv", "--yes"], r"datasets\.a b: is not a valid name"),
        ([*SAID, "--dataset", "a", "x\x7f.csv", "--yes"], "an answer has a character that party.toml cannot have"),
        ([], "Nobody answers; give options, and --yes. Nothing was written"),
    ],
)
def test_it_writes_nothing_that_is_wrong(
    toml: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], wrong: str
) -> None:
    answering(monkeypatch)
    with pytest.raises(CommandError, match=wrong):
        party("init", *words)
    assert not toml.exists()


# --- keys


def test_it_makes_keys_that_are_missing_and_prints_them(toml: Path) -> None:
    party("init", *SAID, "--yes")
    said = party("keys")
    host = PartyHost.load(toml)
    assert "public key:  x25519:" in said
    assert f"signing key: {host.signer.public_key}" in said
    assert host.key_path.stat().st_mode & 0o777 == host.signing_key_path.stat().st_mode & 0o777 == 0o600
    assert party("keys") == said
    host.signing_key_path.chmod(0o644)
    with pytest.raises(CommandError, match="can be read by others than its owner; run chmod 600"):
        party("keys")


# --- check


@pytest.fixture
def right(toml: Path, tmp_path: Path) -> Path:
    (tmp_path / "people.csv").write_text("uid,age\np1,1\n")
    party("init", *SAID, "--dataset", "people", "../people.csv", "--control-plane-key", STRANGER, "--yes")
    party("keys")
    return toml


def test_it_finds_that_all_is_right(right: Path) -> None:
    said = party("check")
    assert "ok     dataset people: 1 rows, 2 columns: uid, age" in said
    assert "wrong" not in said


@pytest.mark.parametrize(
    ("break_it", "wrong"),
    [
        (
            lambda toml: (toml.parent.parent / "people.csv").unlink(),
            "dataset people: the file of dataset people is miss",
        ),
        (lambda toml: toml.open("a").write('columns = ["uidd"]'), "did you mean 'uid'?"),
        (lambda toml: toml.open("a").write(f"expires = {date.today() - timedelta(1)}"), "expired on"),
        (lambda toml: toml.open("a").write("uses = 1\n"), "was read by all 1 executions that may; raise uses"),
        (lambda toml: toml.open("a").write('task_types = ["pis"]'), "there is no task type 'pis'; did you mean 'psi'?"),
        (lambda toml: toml.chmod(0o666), "has mode 666, so that others can change or read it; chmod it to 644 or less"),
        (lambda toml: (toml.parent / "outputs").chmod(0o755), "chmod it to 700"),
        (lambda toml: (toml.parent / "party.signing.key").unlink(), "run `manage.py party keys`"),
        (lambda toml: toml.open("a").write("[tls]\ncertificate='a'\nprivate_key='b'\nca='c'"), "tls: [tls] of alice's"),
    ],
)
def test_it_finds_what_is_wrong(right: Path, break_it: Any, wrong: str) -> None:
    party("check")
    PartyHost.load(right).uses.take("people", "an-execution", 9)
    result = break_it(right)
    assert result is None or result
    out = StringIO()
    with pytest.raises(CommandError, match=r"1 of \d+ are wrong") as caught:
        call_command("party", "check", stdout=out)
    assert caught.value.returncode == 1
    [line] = [line for line in out.getvalue().splitlines() if line.startswith("wrong")]
    assert wrong in line


def test_a_file_that_cannot_be_read_is_named_with_each_of_its_problems(right: Path) -> None:
    right.write_text(right.read_text().replace('"bob"', '"B"').replace("publish", "pubish"))
    with pytest.raises(CommandError) as caught:
        party("check")
    assert "policy.peers.0: is not a valid name" in str(caught.value)
    assert "policy.pubish: unknown key; did you mean 'publish'?" in str(caught.value)


# --- show


def test_it_says_what_is_permitted(right: Path) -> None:
    said = party("show")
    assert "alice takes part in psi and lr with bob." in said
    assert "Of what tasks compute, bob learns what each task type tells" in said
    assert "psi: Finds the rows whose keys all parties have" in said
    assert "The control plane learns the names of the datasets, and the names and types of their columns" in said
    assert "Results may tell of single rows" in said
    assert "A run may take any memory, time and disk." in said
    assert (
        f"Dataset people ({right.parent.parent / 'people.csv'}): all columns may be used in psi and lr; with bob;"
        in (said.replace("/etc/..", ""))
    )


def test_it_says_what_is_limited(right: Path) -> None:
    text = right.read_text().replace('publish = "columns"', 'publish = "nothing"\nmin_intersection_rows = 100')
    text = text.replace("[datasets", "[limits]\nmax_run_seconds = 3600\n[datasets")
    right.write_text(text + 'columns = ["uid"]\nuses = 2\nexpires = 2099-12-31\ntask_types = ["psi"]\n')
    said = party("show")
    assert "An intersection of fewer than 100 rows is kept and told by nobody." in said
    assert "A run is ended once it takes more than 3,600 seconds." in said
    assert "columns uid may be used in psi; with bob; by 2 executions, of which 0 have been; until 2099-12-31." in said
    assert "The control plane learns nothing of the tables but what documents name already" in said
