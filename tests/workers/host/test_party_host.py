"""What a party host has and allows, from its party.toml; it has the last word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.environment import ROOT
from workers.contract.errors import ConfigError
from workers.contract.run_name import RunName
from workers.contract.validation import validate
from workers.host.party import PartyHost
from workers.host.table_files import FileForm
from workers.host.workdirs import remove_traces

TOML = """
party = "alice"
output_dir = "kept"

[policy]
task_types = ["psi", "lr"]
peers = ["bob", "carol"]

[datasets.customers]
path = "tables/customers.csv"

[datasets."q1.2026"]
path = "/data/q1.csv"
"""
ALL = 'task_types = ["*"]\npeers = ["*"]'
POLICY = f"[policy]\n{ALL}\n"


def write(directory: Path, content: str | bytes = TOML) -> Path:
    path = directory / "party.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def host(tmp_path: Path) -> PartyHost:
    found = PartyHost.load(write(tmp_path))
    found.prepare_directories()
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


def found(host: PartyHost, name: str) -> tuple[Path, str | None]:
    source = host.dataset(name)
    return source.path, source.alignment


def result(host: PartyHost, content: str = "uid\na\n") -> Path:
    """A finished file, where runs write theirs."""
    source = host.workdirs.root / "result.csv"
    source.write_text(content)
    return source


def keep(host: PartyHost, name: str, content: str = "uid\na\n", execution: str = "execution-1") -> None:
    host.keep_output(name, result(host, content), execution, alignment=f"{execution}-1")


def documents(output: str = "common") -> dict[str, Any]:
    """As dispatched to alice."""
    where = {"alice": "127.0.0.1", "bob": "127.0.0.2"}
    return {
        "sf_init_config": {
            "parties": ["alice", "bob"],
            "self_party": "alice",
            "cluster": {p: {"address": f"{a}:20000"} for p, a in where.items()},
        },
        "spu_config": {"nodes": [{"party": p, "address": f"{a}:20001"} for p, a in where.items()]},
        "heu_config": {"enable_heu": False},
        "task_config": {
            "task_type": "psi",
            "data_sources": {"alice": "customers", "bob": "clients"},
            "outputs": {"alice": output},
            "algorithm_params": {
                "psi_params": {"input_keys": {"alice": ["uid"], "bob": ["uid"]}, "receivers": ["alice"]}
            },
        },
    }


# --- the file


def test_it_reads_what_the_host_has_and_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    host = PartyHost.load("party.toml")
    monkeypatch.chdir("/")
    assert host.name == "alice"
    assert (host.policy.task_types, host.policy.peers) == (["psi", "lr"], ["bob", "carol"])
    assert host.output_dir == tmp_path / "kept"
    assert found(host, "customers") == (tmp_path / "tables/customers.csv", None)
    assert found(host, "q1.2026") == (Path("/data/q1.csv"), None)
    assert dict(host.datasets("alice") or {}) == {"customers": None, "q1.2026": None}
    assert host.datasets("bob") is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "party: is required; add it|policy: is required; add it"),
        (f'partyy = "alice"\n{POLICY}', "party: is required; add it|partyy: unknown key; did you mean 'party'?"),
        (f'party = "Alice!"\n{POLICY}', "party: is not a valid name; should match ^[a-z][a-z0-9_-]{0,31}$"),
        (f"party = 7\n{POLICY}", "party: has a wrong value; should be text"),
        ('party = "a"\n[policy]\npeers = ["*"]', "policy.task_types: is required; add it"),
        ('party = "a"\n[policy]\ntask_types = []\npeers = "b"', "policy.peers: has a wrong value; should be a list"),
        ('party = "a"\n[policy]\ntask_types = []\npeers = ["b", "B"]', "policy.peers.1: is not a valid name; should"),
        (f'party = "a"\n{POLICY}peer = []', "policy.peer: unknown key; did you mean 'peers'?"),
        (f'party = "a"\n{POLICY}[datasets.x]\npaht = "a"', "datasets.x.path: is required|did you mean 'path'?"),
        (f'party = "a"\n{POLICY}[datasets]\nx = "a"', "datasets.x: has a wrong value; should be"),
        (f'party = "a"\n{POLICY}[datasets."../x"]\npath = "a"', "datasets.../x: is not a valid name; should match"),
        (
            f'party = "a"\n{POLICY}[datasets.x]\npath = "a"\nencoding = "utf9"',
            "datasets.x.encoding: is no encoding that Python knows; use utf-8, gb18030, utf-16, ",
        ),
        (f'party = "a"\n{POLICY}[datasets.x]\npath = "a"\nencoding = "base64"', "datasets.x.encoding: is no encoding"),
        (f'party = "a"\n{POLICY}[datasets.x]\npath = "a"\ndelimiter = ";;"', "datasets.x.delimiter: "),
        (f'party = "a"\n{POLICY}[datasets.x]\npath = "a"\ndelimiter = "x"', "datasets.x.delimiter: "),
        (f'party = "a"\n{POLICY}[datasets.x]\npath = "a"\ntypes = {{b = "text"}}', "datasets.x.types.b: |str"),
        ('party = "a"\nparty = "b"', "cannot be read: "),
        ("party = alice", "cannot be read: Invalid value (at line 1, column 9)"),
        (b"party = '\xff'", "cannot be read: 'utf-8' codec can't decode"),
    ],
)
def test_it_says_what_is_wrong_with_the_file_and_where(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        PartyHost.load(path)
    assert str(caught.value).startswith(f"{path} ")
    for words in said.split("|"):
        assert words in str(caught.value)


def test_it_reads_what_its_operator_says_of_a_tables_form(tmp_path: Path) -> None:
    text = 'path = "x.csv"\nencoding = "gb18030"\ndelimiter = "\\t"\ntypes = {"身份证" = "str", age = "int"}\n'
    source = PartyHost.load(write(tmp_path, f'party = "a"\n{POLICY}[datasets.x]\n{text}')).dataset("x")
    assert source.form == FileForm(encoding="gb18030", delimiter="\t")
    assert source.types == {"身份证": "str", "age": "int"}


def test_it_reads_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert PartyHost.load(write(tmp_path, b"\xef\xbb\xbf" + TOML.encode())).name == "alice"


def test_it_remembers_the_types_of_an_output_until_somebody_edits_it(host: PartyHost) -> None:
    host.keep_output("common", result(host), "execution-1", types={"uid": "str"})
    source = host.dataset("common")
    assert source.types == {"uid": "str"}
    source.path.write_text("uid\n7\n8\n")
    assert host.dataset("common").types == {}


def test_it_says_which_file_is_missing_and_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        PartyHost.load(tmp_path / "party.toml")
    assert str(caught.value) == f"{tmp_path}/party.toml does not exist; set PARTY_TOML to this host's party.toml"
    with pytest.raises(ConfigError, match=r"cannot be read: .*Is a directory"):
        PartyHost.load(tmp_path)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=80)
    | st.dictionaries(st.sampled_from(["party", "policy", "datasets", "x"]), st.integers() | st.text()).map(
        lambda d: "\n".join(f"{k} = {json.dumps(v)}" for k, v in d.items()).encode("utf-8", "replace")
    )
)
def test_it_raises_nothing_but_config_errors_for_a_wrong_file(shared: Path, content: bytes) -> None:
    path = write(shared, content)
    with pytest.raises(ConfigError) as caught:
        PartyHost.load(path)
    assert str(caught.value).startswith(str(path))


def test_it_says_that_the_outputs_have_no_place(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(ConfigError, match=r"^output_dir of party.toml cannot be written: File exists$"):
        PartyHost.load(write(tmp_path)).prepare_directories()


# --- datasets and outputs


def test_it_takes_a_registered_dataset_before_an_output_of_that_name(host: PartyHost, tmp_path: Path) -> None:
    keep(host, "customers")
    assert found(host, "customers") == (tmp_path / "tables/customers.csv", None)


def test_it_gives_an_output_with_its_alignment(host: PartyHost) -> None:
    keep(host, "common", "uid\na\n", "execution-1")
    keep(host, "common.v2", "uid\nb\n", "execution-2")
    assert found(host, "common") == (host.output_dir / "common.csv", "execution-1-1")
    assert found(host, "common.v2") == (host.output_dir / "common.v2.csv", "execution-2-1")
    assert sorted(host.outputs()) == ["common", "common.v2"]
    assert set(host.datasets("alice") or {}) == {"customers", "q1.2026", "common", "common.v2"}


def test_it_replaces_an_output_and_its_alignment(host: PartyHost) -> None:
    keep(host, "common", "uid\nold\n", "execution-1")
    keep(host, "common", "uid\nnew\n", "execution-2")
    path, alignment = found(host, "common")
    assert (path.read_text(), alignment) == ("uid\nnew\n", "execution-2-1")
    assert sorted(p.name for p in host.output_dir.iterdir() if p.is_file()) == ["common.csv", "common.origin.json"]
    assert list(host.workdirs.root.iterdir()) == [], "the source was moved, not copied"


@pytest.mark.parametrize("step", ["os.replace", "json.dumps"])
def test_it_never_leaves_a_wrong_alignment_behind_a_crash(
    host: PartyHost, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    keep(host, "common", "uid\nold\n", "execution-1")

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    source = result(host, "uid\nnew\n")
    with monkeypatch.context() as patch:
        patch.setattr(step, crash)
        with pytest.raises(KeyboardInterrupt):
            host.keep_output("common", source, "execution-2", alignment="execution-2-1")
    path, alignment = found(host, "common")
    assert (path.read_text(), alignment) == ("uid\nold\n" if step == "os.replace" else "uid\nnew\n", None)


@pytest.mark.parametrize("note", ["", "{", '{"other": 1}'])
def test_it_knows_no_alignment_where_the_note_says_none(host: PartyHost, note: str) -> None:
    keep(host, "common")
    (host.output_dir / "common.origin.json").write_text(note)
    assert found(host, "common") == (host.output_dir / "common.csv", None)


def test_it_knows_no_alignment_of_an_output_that_somebody_edited(host: PartyHost) -> None:
    keep(host, "common", "uid\na\nb\n")
    path, alignment = found(host, "common")
    assert alignment == "execution-1-1"
    path.write_text("uid\nb\na\n")
    assert found(host, "common") == (path, "changed:execution-1")
    path.write_text("uid\na\nb\n")
    os.utime(path, ns=(1, 1))
    assert found(host, "common") == (path, "execution-1-1"), "restored, as a backup does"
    path.write_text("uid\na\nb\nc\n")
    assert found(host, "common") == (path, "changed:execution-1")
    noted = host.keep_output("more", result(host, "uid\nc\n"), "execution-2", alignment="changed:execution-1")
    assert noted is None, "what the control plane is told"
    assert found(host, "more")[1] is None, "what is made of it has an order that nobody knows"


@pytest.mark.parametrize("note", ["[]", '{"state": 3}', '{"state": []}', '{"state": [1, 2], "alignment": "x"}'])
def test_it_takes_no_note_for_more_than_it_says(host: PartyHost, note: str) -> None:
    keep(host, "common")
    (host.output_dir / "common.origin.json").write_text(note)
    assert found(host, "common")[1] in (None, "changed:None")


@pytest.mark.parametrize("name", ["a dir", "a;b", "$HOME", "it's", 'q"q', "a&b"])
def test_it_refuses_a_place_for_outputs_that_a_shell_would_misread(tmp_path: Path, name: str) -> None:
    """SecretFlow's PSI sorts its temporary files, which lie there, by a command line."""
    with pytest.raises(ConfigError, match="output_dir: lies at a path with blanks or other characters"):
        PartyHost.load(write(tmp_path, f"party = 'a'\noutput_dir = {json.dumps(name)}\n{POLICY}"))


def test_it_takes_an_alignment_that_its_operator_declares(tmp_path: Path) -> None:
    tables = '[datasets.x]\npath = "x.csv"\nalignment = "clinic.2026"\n[datasets.y]\npath = "y.csv"\n'
    host = PartyHost.load(write(tmp_path, f'party = "a"\n{POLICY}{tables}'))
    # Marked, so that it is never taken for one that a run made
    assert found(host, "x") == (tmp_path / "x.csv", "declared:clinic.2026")
    assert found(host, "y") == (tmp_path / "y.csv", None)


def test_it_shows_a_reader_the_old_output_or_the_new_one(host: PartyHost) -> None:
    old, new = "uid\n" + "old\n" * 5000, "uid\n" + "new\n" * 5000
    keep(host, "common", old)
    over = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not over.is_set():
            seen.add(host.dataset("common").path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        keep(host, "common", new if turn % 2 else old)
    over.set()
    reader.join(10)
    assert not reader.is_alive()
    assert seen <= {old, new}


@pytest.mark.parametrize("name", ["comon", "z"])
def test_it_names_no_dataset_but_the_one_asked_for(host: PartyHost, name: str) -> None:
    keep(host, "common")
    with pytest.raises(ConfigError) as caught:
        host.dataset(name)
    assert str(caught.value) == f"alice has no dataset {name!r}; register it in party.toml on alice's host"


def test_it_keeps_outputs_for_its_own_user_alone(host: PartyHost) -> None:
    keep(host, "common")
    assert (host.output_dir / "common.csv").stat().st_mode & 0o777 == 0o600


def test_it_reads_its_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "party.toml"
    text = 'party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n'
    path.write_text(text)
    host = PartyHost.from_message(json.loads(json.dumps(PartyHost.load(path).as_message())))
    assert (host.name, host.output_dir) == ("alice", tmp_path / "outputs")
    path.write_text(text + '[datasets.new]\npath = "new.csv"\n')
    assert found(host.reload(), "new") == (tmp_path / "new.csv", None)
    for wrong, said in (
        ("party = 'alice", "party.toml of alice cannot be used"),
        ('party = "alice"\n', "policy: is required"),
        (text.replace("alice", "bob"), "names another party"),
        (None, "does not exist"),
    ):
        path.unlink() if wrong is None else path.write_text(wrong)
        with pytest.raises(ConfigError) as caught:
            host.reload()
        assert said in str(caught.value)
        told = caught.value.told(lambda word: word == "alice")
        assert told.startswith("party.toml of alice ")
        assert str(tmp_path) not in told


TRICKS = [
    "../x",
    "..",
    ".",
    "a/b",
    "/etc/passwd",
    "",
    "a\n",
    "-a",
    "a\0",
    "~",
    ".journal",
    "a" * 129,
    "a\\b",
    "ä",
    "%2e%2e",
]


@pytest.mark.parametrize("name", TRICKS)
def test_it_refuses_names_that_are_more_than_names(host: PartyHost, name: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for call in (lambda: host.dataset(name), lambda: host.keep_output(name, tmp_path / "party.toml", "e")):
        with pytest.raises(ConfigError, match=r"^an output's name has a character that is not allowed$"):
            call()
    assert sorted(tmp_path.rglob("*")) == before


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.sampled_from("a.b/\\~-_\0\n "), max_size=12))
def test_it_never_leaves_its_output_directory(shared: Path, name: str) -> None:
    host = PartyHost.load(write(shared))
    host.prepare_directories()
    try:
        keep(host, name)
    except ConfigError:
        return
    assert host.dataset(name).path.parent == host.output_dir
    assert host.dataset(name).path.name == f"{name}.csv"


# --- policy


@pytest.mark.parametrize("policy", [ALL, 'task_types = ["psi"]\npeers = ["bob"]'])
def test_it_allows_what_the_policy_allows(tmp_path: Path, policy: str) -> None:
    PartyHost.load(write(tmp_path, f'party = "alice"\n[policy]\n{policy}\n')).check(validate(documents()))


@pytest.mark.parametrize(
    ("policy", "output", "text"),
    [
        ('task_types = ["lr"]\npeers = ["*"]', "common", "alice's policy does not allow task type psi"),
        ('task_types = []\npeers = ["*"]', "common", "alice's policy does not allow task type psi"),
        ('task_types = ["*"]\npeers = ["carol"]', "common", "alice's policy does not allow computing with bob"),
        ('task_types = ["*"]\npeers = []', "common", "alice's policy does not allow computing with bob"),
        ('task_types = ["*"]\npeers = ["alice"]', "common", "alice's policy does not allow computing with bob"),
    ],
)
def test_it_refuses_what_the_policy_does_not_allow(tmp_path: Path, policy: str, output: str, text: str) -> None:
    content = f'party = "alice"\n[policy]\n{policy}\n[datasets.customers]\npath = "c.csv"\n'
    host = PartyHost.load(write(tmp_path, content))
    with pytest.raises(ConfigError) as caught:
        host.check(validate(documents(output)))
    assert str(caught.value) == text


def test_it_keeps_what_it_registered(tmp_path: Path) -> None:
    host = PartyHost.load(write(tmp_path))
    with pytest.raises(ConfigError, match=r"outputs\.alice: customers is a dataset that alice registered"):
        validate(documents("customers"), host)


# --- where to listen


def over_tls() -> dict[str, Any]:
    found = documents()
    found["sf_init_config"]["tls_config"] = {"enabled": True}
    return found


@pytest.mark.parametrize("listens", ["0.0.0.0", "[::]", "private.example"])
def test_it_listens_where_the_host_says(tmp_path: Path, listens: str) -> None:
    host = PartyHost.load(write(tmp_path, f'listen_host = "{listens}"\n{TOML}'))
    sent = over_tls()
    local = host.localized(sent, validate(sent))
    assert sent == over_tls(), "what was sent stays as it was: its digest is compared with the peers'"
    cluster, nodes = local["sf_init_config"]["cluster"], local["spu_config"]["nodes"]
    assert cluster["alice"] == {"address": "127.0.0.1:20000", "listen_addr": f"{listens}:20000"}
    assert nodes[0] == {"party": "alice", "address": "127.0.0.1:20001", "listen_address": f"{listens}:20001"}
    assert (cluster["bob"], nodes[1]) == (sent["sf_init_config"]["cluster"]["bob"], sent["spu_config"]["nodes"][1])
    validate(local)


def test_a_device_of_another_package_listens_there_too(tmp_path: Path) -> None:
    host = PartyHost.load(write(tmp_path, f'listen_host = "0.0.0.0"\n{TOML}'))
    ends = [{"party": party, "address": f"127.0.0.1:{port}"} for party, port in (("alice", 20003), ("bob", 20103))]
    sent = over_tls() | {"hsm_config": {"token": "t", "endpoints": ends}}
    local = host.localized(sent, validate(sent))
    assert local["hsm_config"]["endpoints"] == [ends[0] | {"listen_address": "0.0.0.0:20003"}, ends[1]]
    validate(local)


def test_it_listens_at_its_address_where_the_host_says_nothing(host: PartyHost, tmp_path: Path) -> None:
    assert host.localized(documents(), validate(documents())) == documents()
    # and has no SPU link to listen on where there is none
    elsewhere = PartyHost.load(write(tmp_path, f'listen_host = "0.0.0.0"\n{TOML}'))
    light = {"task_type": "light", "algorithm_params": {"light_params": {"rounds": 1}}}
    sent = documents() | {"spu_config": {"enable_spu": False}}
    sent["task_config"] = {"data_sources": sent["task_config"]["data_sources"]} | light
    local = elsewhere.localized(sent, validate(sent))
    assert local["sf_init_config"]["cluster"]["alice"]["listen_addr"] == "0.0.0.0:20000"
    assert local["spu_config"] == {"enable_spu": False}


# --- private directories

HOLDER = """
import sys, time
from pathlib import Path
from workers.host.table_files import FileForm
from workers.host.party import PartyHost
lock = PartyHost.load(sys.argv[1]).workdirs.claim(Path(sys.argv[2]))
(Path(sys.argv[2]) / "rows.csv").write_text("uid\\na\\n")
print("held", flush=True)
time.sleep(60)
"""


def test_it_removes_the_directories_of_dead_processes_alone(host: PartyHost, tmp_path: Path) -> None:
    held, other = host.workdirs.of_run(RunName("execution", 1)), host.workdirs.of_run(RunName("execution", 2))
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "party.toml")]
    holders = [subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, cwd=ROOT) for path in (held, other)]
    try:
        for holder in holders:
            assert holder.stdout
            assert holder.stdout.readline() == b"held\n"
        (host.workdirs.root / "stray file").write_text("x")
        host.workdirs.remove_abandoned()
        assert [(p / "rows.csv").exists() for p in (held, other)] == [True, True]
        holders[1].send_signal(signal.SIGKILL)
        holders[1].wait(10)
        host.workdirs.remove_abandoned()
        assert [(p / "rows.csv").exists() for p in (held, other)] == [True, False]
        assert not other.exists()
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate(timeout=10)
    host.workdirs.remove_abandoned()
    assert not held.exists()
    assert (host.workdirs.root / "stray file").exists()


def test_it_begins_an_attempt_with_an_empty_directory(host: PartyHost) -> None:
    path = host.workdirs.of_run(RunName("execution", 1))
    path.mkdir()
    (path / "left over").write_text("x")
    with host.workdirs.claim(path):
        assert [p.name for p in path.iterdir()] == [".lock"]
        private = (path, host.output_dir, host.workdirs.root, host.journal_dir)
        assert [p.stat().st_mode & 0o777 for p in private] == [0o700] * 4


def test_it_removes_the_traces_of_a_run_and_nothing_older() -> None:
    old, new = (Path(f"/tmp/psi_test_{os.getpid()}_{age}.trace") for age in ("old", "new"))
    old.touch()
    os.utime(old, (1_000_000, 1_000_000))
    new.touch()
    remove_traces(new.stat().st_mtime)
    left = [p.exists() for p in (new, old)]
    old.unlink()
    assert left == [False, True]
