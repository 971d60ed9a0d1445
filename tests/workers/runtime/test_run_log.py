"""What of a run's log is kept, and what of it is sent: by the policy, bounded, and never in the way of anything."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from fixtures.documents import psi_documents
from tests.keys import introduce
from workers.contract.errors import ConfigError
from workers.contract.keys import stream_of
from workers.contract.logs import MESSAGE_LIMIT, MOST_LINES, STAYS, TEXT_LENGTH
from workers.contract.run_name import RunName
from workers.contract.secrets import MASK
from workers.contract.wording import NOT_TOLD, Text
from workers.host import stream as streams
from workers.host.gate import Gate
from workers.host.party import PartyHost
from workers.host.run_logs import RunLogs
from workers.network.links import LINK_LOST
from workers.runtime import run_log, told_lines
from workers.runtime.compute_process import ComputeProcess
from workers.runtime.job_logs import JobLogs
from workers.runtime.log_sender import LogSender
from workers.runtime.process_log import ProcessLog
from workers.runtime.run_log import RunLog
from workers.runtime.told_lines import beginning_of

EXECUTION = "0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e"
RUN = RunName(EXECUTION, 1)
CANARY = "zebrafish"
MARK = beginning_of("mark")
C_LINE = b"[2026-11-30 17:33:04.647] [info] [launch.cc:116] begin vole recv\n"


@pytest.fixture
def make_host(tmp_path: Path) -> Callable[[str], PartyHost]:
    def make(table: str, more: str = "") -> PartyHost:
        path = tmp_path / "party.toml"
        path.write_text(f'party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n{more}\n[logs]\n{table}\n')
        introduce(path)
        host = PartyHost.load(path)
        host.prepare_directories()
        return host

    return make


def log_of(host: PartyHost, documents: dict[str, Any] | None = None) -> RunLog:
    made = RunLog(host, RUN, lambda log: None, documents or {})
    made.begin()
    return made


def marked(*texts: str, level: int = 20, **more: Any) -> bytes:
    return MARK + json.dumps({"level": level, "source": "task_run.py:1", "lines": texts} | more).encode() + b"\n"


def texts(log: RunLog) -> list[str]:
    return [line[3] for line in log.take()[0]]


# --- what waits to be sent


def test_all_is_kept_and_nothing_is_sent_by_default(make_host: Any) -> None:
    host = make_host("")
    log = log_of(host)
    assert log.lines(b"one\n" + marked("told") + C_LINE, MARK) == b"one\n" + C_LINE
    log.end(failed=True)
    assert log.take() == ([], 0)
    assert list(RunLogs(host.logs_dir).read(RunLogs(host.logs_dir).find(EXECUTION))) == ["one", C_LINE[:-1].decode()]


def test_the_trial_tier_sends_what_is_known(make_host: Any) -> None:
    assert make_host("", 'security = "trial"').sends_logs == "info"
    assert make_host('send = "off"', 'security = "trial"').sends_logs == "off"
    assert make_host("").sends_logs == "off"


def test_of_a_failure_the_last_lines_are_sent(make_host: Any) -> None:
    for failed, by_mark in ((True, False), (True, True), (False, False)):
        log = log_of(make_host('send = "failure"\nlines = 3'))
        for number in range(10):
            log.lines(marked(f"line {number}"), MARK)
        if by_mark:
            log.lines(MARK + b'{"failed": true}\n', MARK)
        assert log.take() == ([], 0), "nothing while it goes on"
        log.end(failed=failed and not by_mark)
        assert texts(log) == (["line 7", "line 8", "line 9"] if failed else [])


def test_lines_of_at_least_the_level_are_sent_and_of_others_the_safe_form(make_host: Any) -> None:
    log = log_of(make_host('send = "warning"'))
    log.lines(marked("fine") + marked("odd", level=30) + C_LINE, MARK)
    log.lines(f"W1130 17:33:04.542878 12753     0 external/x/server.cpp:2027] {CANARY}\n{CANARY}\n".encode(), MARK)
    assert texts(log) == ["odd", STAYS]


def test_a_mark_of_somebody_else_is_a_line_like_any(make_host: Any) -> None:
    log = log_of(make_host('send = "debug"'))
    forged = beginning_of("guess") + json.dumps({"level": 50, "source": "", "lines": [CANARY]}).encode() + b"\n"
    assert log.lines(forged + b"x " + marked(CANARY), MARK) == forged + b"x " + marked(CANARY)
    assert texts(log) == []


def test_what_is_too_much_or_too_fast_is_dropped_and_counted(make_host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of(make_host('send = "info"\nlines = 10'))
    log.lines(b"".join(marked(f"line {n}") for n in range(25)), MARK)
    lines, dropped = log.take()
    assert ([line[3] for line in lines], dropped) == ([f"line {n}" for n in range(10)], 15)

    monkeypatch.setattr(run_log, "BURST", 5)
    fast = log_of(make_host('send = "info"\nlines = 1000'))
    fast.lines(b"".join(marked(f"line {n}") for n in range(25)), MARK)
    lines, dropped = fast.take()
    assert len(lines) + dropped == 25
    assert len(lines) <= 6
    fast.lines(marked("the last"), MARK)
    fast.end(failed=True)
    assert texts(fast)[-1] == "the last", "of a failure, whatever was sent before"


def test_a_policy_that_was_changed_holds_for_the_next_run(make_host: Any, tmp_path: Path) -> None:
    host = make_host("")
    logs = JobLogs(host, tmp_path / "party.toml", "redis://nowhere")
    job = type("Job", (), {"kwargs": {"task_request_id": EXECUTION, "sf_init_config": {"job_name": f"{EXECUTION}-2"}}})
    first = logs.of(job)
    assert first
    assert (first.run, first.host.sends_logs) == (RunName(EXECUTION, 2), "off")
    make_host('send = "info"\nlines = 7')
    second = logs.of(job)
    assert second
    assert second.host.sends_logs == "info"
    (tmp_path / "party.toml").write_text("nonsense")
    third = logs.of(job)
    assert third
    assert third.host.sends_logs == "info", "the run itself fails by it"
    assert logs.of(type("Job", (), {"kwargs": {"task_request_id": "../x"}})) is None


# --- what a process tells of its lines


@pytest.fixture
def gate(make_host: Any) -> Gate:
    return Gate(make_host(""), {"task_config": {"data_sources": {"alice": "customers"}}})


def record(text: Any, *args: Any, name: str = "workers.runtime.task_run", error: Any = None) -> logging.LogRecord:
    return logging.LogRecord(name, 30, told_lines.__file__, 7, text, args, error and (type(error), error, None))


def test_of_our_texts_what_stands_in_gaps_is_told_if_it_may_be(gate: Gate) -> None:
    found = told_lines.told_of(record("%s has %d rows of %r in %s", "customers", 3, CANARY, Text("stage x")), gate)
    assert found == f"customers has 3 rows of '{NOT_TOLD}' in stage x"
    error = ConfigError("dataset {} has no column {}", "customers", CANARY)
    assert told_lines.told_of(record("odd: %s", error), gate) == f"odd: dataset customers has no column {NOT_TOLD}"
    assert told_lines.told_of(record("odd: %s", ValueError(CANARY)), gate) == f"odd: {NOT_TOLD}"


def test_of_others_texts_only_known_ones_are_told(gate: Gate) -> None:
    assert told_lines.told_of(record(f"value {CANARY}", name="secretflow"), gate) == STAYS
    assert told_lines.told_of(record("value %s", CANARY, name="root"), gate) == STAYS
    assert told_lines.told_of(record(ValueError(CANARY)), gate) == STAYS
    assert told_lines.told_of(record("Try init sf in PRODUCTION mode", name="root"), gate).startswith("Try init")


@given(st.text(min_size=1), st.text(), st.sampled_from(["secretflow", "root", "py.warnings", "workers.x"]))
def test_no_value_is_told_whatever_logs_it(before: str, after: str, name: str) -> None:
    class Plain:
        name = "alice"

        def publishes(self, what: str) -> bool:
            return False

        def places(self) -> list[Path]:
            return []

        def knows(self, name: str) -> bool:
            return False

    plain = Gate(Plain())
    value = f"{before}{CANARY}{after}"
    for arguments in ([value], {"x": value}, ValueError(value), (value,), Path(f"/srv/{CANARY}")):
        told = told_lines.told_of(record("reading %s", arguments if arguments != {} else "", name=name), plain)
        assert CANARY not in told


def test_a_traceback_is_told_as_places_in_the_code(gate: Gate, tmp_path: Path) -> None:
    own = tmp_path / f"{CANARY}.py"
    own.write_text(f"def fail():\n    raise ValueError('{CANARY}')\n")
    spaces: dict[str, Any] = {}
    exec(compile(own.read_text(), str(own), "exec"), spaces)
    try:
        try:
            spaces["fail"]()
        except ValueError as cause:
            raise ConfigError("dataset {} is odd", CANARY) from cause
    except ConfigError as error:
        told = list(told_lines._told_of_error((type(error), error, error.__traceback__), gate))
    assert told[0] == f"ConfigError: dataset {NOT_TOLD} is odd"
    assert told[1].startswith("  at tests/workers/runtime/test_run_log.py:")
    assert f"ValueError: {STAYS}" in told
    assert told[-1] == "  at code elsewhere"
    assert CANARY not in json.dumps(told)


# --- from a process's standard error


@pytest.fixture
def process_log(capfd: pytest.CaptureFixture[str]) -> Iterator[ProcessLog]:
    made = ProcessLog()
    yield made
    made.close_ours()
    made.drain()


def test_what_a_process_writes_reaches_both_logs_without_marks(
    process_log: ProcessLog, make_host: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    host = make_host('send = "info"')
    log = log_of(host)
    os.write(process_log.write, b"before its job\n")
    time.sleep(0.1)
    process_log.begin(log)
    mark = beginning_of(process_log.mark) + b'{"level": 30, "source": "", "lines": ["told"]}\n'
    for part in (b"half", b" a line\n" + mark[:9], mark[9:], b"no end"):
        os.write(process_log.write, part)
        time.sleep(0.02)
    os.close(os.dup(process_log.write))
    process_log.close_ours()
    process_log.drain()
    # brpc writes to this process's own standard error, too
    ours = [line for line in capfd.readouterr().err.split("\n") if "brpc" not in line]
    assert ours == ["before its job", "half a line", "no end"]
    log.end()
    assert [*RunLogs(host.logs_dir).read(RunLogs(host.logs_dir).find(EXECUTION))] == ["half a line", "no end"]
    assert texts(log) == ["told"]
    process_log.write = os.open(os.devnull, os.O_WRONLY)  # for the fixture to close


def test_a_reader_that_fails_holds_no_process_up(
    process_log: ProcessLog, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def lines(self, marked: bytes, beginning: bytes) -> bytes:
            raise ValueError("nobody thought of this")

    process_log.begin(Broken())
    for _ in range(50):
        os.write(process_log.write, b"x" * 99_999 + b"\n")
    until = time.monotonic() + 10
    while "were not kept" not in caplog.text and time.monotonic() < until:
        time.sleep(0.01)
    assert "were not kept" in caplog.text


# --- sending


def sent(connection: Redis) -> list[dict[str, Any]]:
    return [json.loads(fields[b"log"]) for _, fields in connection.xrange(stream_of("alice"))]


def send(host: PartyHost, connection: Redis, *logs: RunLog, url: str = "") -> LogSender:
    sender = LogSender(host, url or os.environ["REDIS_URL"])
    for log in logs:
        log._wake = sender.wake
        log.end()
    sender.close(10)
    return sender


def test_lines_are_sent_signed_in_messages_that_are_not_too_large(make_host: Any, connection: Redis) -> None:
    log = log_of(make_host('send = "info"\nlines = 1000\ntext = "all"'))
    log.lines(b"".join(b"2026-11-30 17:33:04,528 INFO root: " + b"x" * 400 + b"\n" for _ in range(250)), MARK)
    send(log.host, connection, log)
    messages = sent(connection)
    assert sum(len(message["lines"]) for message in messages) == 250
    assert [message["sequence"] for message in messages] == list(range(1, len(messages) + 1))
    assert max(len(message["lines"]) for message in messages) <= MOST_LINES
    assert max(len(fields[b"log"]) for _, fields in connection.xrange(stream_of("alice"))) <= MESSAGE_LIMIT
    assert all(b"signature" in (fields or {}) for _, fields in connection.xrange(stream_of("alice")))


def test_secrets_and_paths_stay_whatever_the_policy(make_host: Any, connection: Redis) -> None:
    host = make_host('send = "info"\ntext = "all"')
    password = os.environ["REDIS_URL"].rpartition("=")[2]
    log = log_of(host)
    log.lines(f"{host.output_dir}/{CANARY} {password} token: {CANARY} {'y' * TEXT_LENGTH} end\n".encode(), MARK)
    send(host, connection, log)
    [message] = sent(connection)
    [[_, level, source, text]] = message["lines"]
    assert (level, source, len(text)) == (20, "", TEXT_LENGTH)
    assert text.startswith(f"{NOT_TOLD} {MASK} token: {MASK} yyy")


def test_where_it_is_not_known_what_is_secret_no_text_leaves(make_host: Any, connection: Redis) -> None:
    documents = psi_documents("customers") | {"hsm_config": {"enable_hsm": True, "token": f"sealed:{CANARY}"}}
    log = log_of(make_host('send = "info"\ntext = "all"'), documents)
    log.lines(f"the token is {CANARY}\n".encode(), MARK)
    send(log.host, connection, log)
    assert [line[3] for line in sent(connection)[0]["lines"]] == [STAYS]


def test_what_redis_does_not_take_is_dropped_and_said_later(
    make_host: Any, connection: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streams, "MOST_UNREAD", 3)
    host = make_host('send = "info"')
    for _ in range(5):
        connection.xadd(stream_of("alice"), {"event": "{}"})
    log = log_of(host)
    log.lines(marked("one") + marked("two"), MARK)
    sender = LogSender(host, os.environ["REDIS_URL"])
    sender._send(log)
    assert connection.xlen(stream_of("alice")) == 5
    assert "were not sent, and are on this host alone" in caplog.text
    connection.delete(stream_of("alice"))
    log.lines(marked("three"), MARK)
    sender._send(log)
    [message] = sent(connection)
    assert ([line[3] for line in message["lines"]], message["dropped"]) == (["three"], 2)


def test_a_redis_that_is_away_delays_nobody(make_host: Any, connection: Redis) -> None:
    log = log_of(make_host('send = "info"'))
    log.lines(marked("one"), MARK)
    begun = time.monotonic()
    send(log.host, connection, log, url="unix:///nowhere.sock")
    assert time.monotonic() - begun < 2
    assert log.take() == ([], 1)


def test_a_sender_sleeps_until_there_is_something(make_host: Any, connection: Redis) -> None:
    host = make_host('send = "info"')
    sender = LogSender(host, os.environ["REDIS_URL"])
    assert sender._thread is None
    log = RunLog(host, RUN, sender.wake, {})
    log.begin()
    log.lines(marked("one"), MARK)
    log.lines(marked("two"), MARK)
    until = time.monotonic() + 5
    while not sent(connection) and time.monotonic() < until:
        time.sleep(0.05)
    assert [line[3] for line in sent(connection)[0]["lines"]] == ["one", "two"], "gathered for a second"
    log.lines(marked("three"), MARK)
    log.end()
    while len(sent(connection)) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert [line[3] for line in sent(connection)[1]["lines"]] == ["three"]
    sender.close()


# --- how a process's end is told


class Ended:
    """A process that has ended so."""

    pid = 7

    def __init__(self, status: int, said: bytes = b"") -> None:
        self.status = status
        read, write = os.pipe()
        os.write(write, said)
        os.close(write)
        self.stdin, self.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "wb"), os.fdopen(read, "rb")

    def poll(self) -> int:
        return self.status

    def wait(self, timeout: float | None = None) -> int:
        return self.status


@pytest.mark.parametrize(
    ("status", "said", "is_told"),
    [(0, b"", False), (1, b"", True), (-9, b"", True), (LINK_LOST, b"", False), (-9, b'"done"\n', False)],
)
def test_the_last_lines_are_sent_of_a_process_that_ended_before_its_job(
    make_host: Any, status: int, said: bytes, is_told: bool
) -> None:
    log = RunLog(make_host('send = "failure"'), RUN, lambda log: None, {})
    process = ComputeProcess(Ended(status, said), "a job")
    process.give({}, log)
    log.lines(marked("the last"), MARK)
    process.outcome(1)
    process.close()
    found = texts(log)
    assert found[:1] == ["the last"] * is_told
    assert all(text.startswith("the process ended: ") for text in found[1:])
