"""What is told of lines that other software wrote: level and place, and no text that could quote anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.keys import introduce
from workers.contract.logs import LEVELS, STAYS, TEXT_LENGTH
from workers.contract.secrets import MASK
from workers.contract.wording import NOT_TOLD
from workers.host.gate import Gate
from workers.host.log_lines import at_least, is_known, safe_line, whole_line
from workers.host.party import PartyHost

CANARY = "zebrafish"
#: As SecretFlow 1.14 writes them; X stands for what may be anything.
FORMS = [
    "[2026-11-30 17:33:04.647] [info] [launch.cc:116] X",
    "2026-11-30 23:04:24.841 [error] [variable.cpp:BRPC:177] X",
    "[697.052]       perfetto.cc:45899 X",
    "W1130 17:33:04.542878 12753     0 external/brpc~/src/brpc/server.cpp:2027] X",
    "2026-11-30 17:33:04.810 INFO base.py:1566 [alice] -- X",
    "2026-11-30 17:33:04,528 INFO root: X",
    "ValueError: could not convert string to float: 'X'",
    "X",
]


@pytest.mark.parametrize(
    ("line", "level", "source"),
    [
        (FORMS[0], 20, "launch.cc:116"),
        (FORMS[1], 40, "variable.cpp:BRPC:177"),
        (FORMS[2], 20, "perfetto.cc:45899"),
        (FORMS[3], 30, "server.cpp:2027"),
    ],
)
def test_of_a_line_of_c_level_and_place_are_told(line: str, level: int, source: str) -> None:
    assert safe_line(line.replace("X", f"key {CANARY} is twice"), 1.0) == (1.0, level, source, STAYS)


@pytest.mark.parametrize("line", FORMS[4:])
def test_of_what_python_writes_nothing_is_read(line: str) -> None:
    """The process itself says what may be told of that."""
    assert safe_line(line, 1.0) is None


@pytest.mark.parametrize(
    "text",
    [
        "[Rr22PsiReceiver::Init] start",
        "[AbstractPsiParty::Init][Check csv pre-process] end",
        "begin vole recv",
        "get intersection begin",
        "Create a fixed thread pool with size 1",
        "Try init sf in PRODUCTION mode",
        "Server[yacl::link::transport::internal::ReceiverServiceImpl] is serving on unix:link-28675.sock.",
        "Already exposed `rpc_server_123456789_uptime' whose value is `0.000194'",
    ],
)
def test_texts_that_quote_nothing_are_told(text: str) -> None:
    assert is_known(text)
    assert safe_line(FORMS[0].replace("X", text), 1.0) == (1.0, 20, "launch.cc:116", text)


@pytest.mark.parametrize(
    "text",
    [
        "bucket.cc psi protocol=3, rank=0 item_size=460",
        "inter_info: 363",
        "Join stat: { self_intersection_count: 363 }",
        'table header: "key","row"',
        f"[{CANARY}::Init] start",
        f"begin vole recv {CANARY}",
        f"Create a fixed thread pool with size 1\n{CANARY}",
        "Create a fixed thread pool with size 123456789",
        "/srv/data/x.csv",
    ],
)
def test_texts_that_may_tell_something_are_not(text: str) -> None:
    assert not is_known(text)


@given(st.sampled_from(FORMS), st.text(), st.text(), st.integers(0, 200))
def test_no_line_tells_a_value_wherever_it_stands(form: str, before: str, after: str, place: int) -> None:
    whole = form.replace("X", f"{before}{CANARY}{after}")
    moved = form[:place] + CANARY + form[place:]
    for line in (whole, moved.replace("X", f"{before}{CANARY}")):
        told = safe_line(line, 1.0)
        # A place in the code is no value: a file's name stands in one kind of brackets, in one form
        assert told is None or CANARY not in told[3]


@given(st.text(min_size=1))
def test_only_what_is_known_is_ever_told(text: str) -> None:
    told = safe_line(FORMS[0].replace("X", text), 1.0)
    assert told is None or told[3] in (STAYS, text[:TEXT_LENGTH])
    assert told is None or told[3] == STAYS or is_known(text)


def test_a_level_takes_what_continues_a_line_along() -> None:
    lines = [
        "2026-11-30 17:33:04,528 INFO root: fine",
        "2026-11-30 17:33:04,528 ERROR workers.runtime.task_run: alice-1: failed",
        "Traceback (most recent call last):",
        '  File "x.py", line 1',
        "[2026-11-30 17:33:04.647] [warning] [launch.cc:116] odd",
    ]
    assert list(at_least(lines, LEVELS["error"])) == lines[1:4]
    assert list(at_least(lines, LEVELS["warning"])) == lines[1:]


def test_a_line_says_its_job_once() -> None:
    job = "alice-0b5e-1"
    assert whole_line(f"2026-11-30 17:33:04,528 INFO root: {job}: fine", 1.0, 20, job) == (1.0, 20, "root", "fine")


# --- what is taken out of texts, whatever the policy says


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    path = tmp_path / f"{CANARY}-host" / "party.toml"
    path.parent.mkdir()
    path.write_text('party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n')
    return Gate(PartyHost.load(introduce(path)))


@pytest.mark.parametrize(
    "text",
    [
        f"redis://alice:{CANARY}@host:1/0",
        f"password={CANARY} for it",
        f'{{"token": "{CANARY}"}}',
        f"Authorization: Bearer {CANARY}",
        f"api_key = '{CANARY}'",
    ],
)
def test_what_looks_like_a_secret_is_masked(gate: Gate, text: str) -> None:
    told = gate.without_secrets(text)
    assert CANARY not in told
    assert MASK in told


def test_paths_of_this_host_are_never_told(gate: Gate, tmp_path: Path) -> None:
    path = tmp_path / f"{CANARY}-host" / "outputs" / "keys.csv"
    assert (
        gate.without_secrets(f"Init table with file: {path}, size: 1") == f"Init table with file: {NOT_TOLD}, size: 1"
    )


@given(st.text(min_size=6, max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_a_secret_is_masked_wherever_it_stands(secret: str, before: str, after: str) -> None:
    gate = _GATES[0] if _GATES else _GATES.append(_plain_gate()) or _GATES[0]  # type: ignore[func-returns-value]
    assert secret not in gate.without_secrets(before + secret + after, [secret]).replace(MASK, "\0")


_GATES: list[Gate] = []


def _plain_gate() -> Gate:
    class Plain:
        name = "alice"

        def publishes(self, what: str) -> bool:
            return True

        def places(self) -> list[Path]:
            return []

    return Gate(Plain())
