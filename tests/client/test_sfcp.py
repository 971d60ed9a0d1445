"""The command line: what it prints, its exit statuses, and that nothing ends in a traceback or tells the token."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from secretflow_controlplane_client import AsyncClient
from secretflow_controlplane_client.cli import commands, main
from secretflow_controlplane_client.client import Client
from typer.main import get_command

from controlplane.environment import ROOT
from tests.client.server import TOKEN, Asked, Reply, Server, event, execution, problem, state, stream

ERROR = {"type": "DataError", "party": "bob", "stage": "load_data", "message": "column age is missing"}


class Said(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def sfcp(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command; whatever it is, its output has neither a traceback nor the token."""
    everything = []

    def run(*arguments: str, url: str = server.url, token: str = TOKEN, **env: str) -> Said:
        for name, value in {"SFCP_URL": url, "SFCP_TOKEN": token, "COLUMNS": "200", **env}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["sfcp", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        everything.append(said.out + said.err)
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0, said.out, said.err)

    yield run
    for text in everything:
        assert "Traceback" not in text
        assert TOKEN not in text


def site(*told: Any, end: dict[str, Any], documents: dict[str, Any] | None = None) -> Callable[[Asked], Reply]:
    """A control plane with one execution, which ends so."""

    def answer(asked: Asked) -> Reply:
        if asked.method == "POST":
            return Reply(201, execution("QUEUED"))
        return stream(*told) if asked.path.endswith("/events/") else Reply(200, end)

    return answer


def test_a_run_that_succeeds(sfcp: Run, server: Server) -> None:
    server.will(
        site(
            state(1, "QUEUED"), event(1, "alice", "load", progress=0.5), state(2, "SUCCESS"), end=execution(seconds=1.5)
        )
    )
    said = sfcp("run", "intersect", "--label", "team:risk", "--label", "day:1:2", "--deadline", "2030-01-31T18:00:00Z")
    assert (said.status, said.out) == (0, "6a0e\n"), said.err
    assert "intersect  SUCCESS after 1.5 s" in said.err
    assert server.asked[0].body == {
        "task": "intersect",
        "labels": {"team": "risk", "day": "1:2"},
        "deadline": "2030-01-31T18:00:00+00:00",
    }


def test_a_run_that_fails_tells_the_cause(sfcp: Run, server: Server) -> None:
    server.will(site(state(1, "QUEUED"), state(2, "FAILURE"), end=execution("FAILURE", error=ERROR)))
    said = sfcp("run", "intersect")
    assert said.status == 1
    assert "cause: bob, stage load_data: column age is missing" in said.err
    assert "FAILURE" in said.err


@pytest.mark.parametrize("refusal", [problem("not-acceptable", 406), problem("overloaded", 503, Retry_After="0")])
def test_a_run_without_a_stream_waits_for_its_end(sfcp: Run, server: Server, refusal: Reply) -> None:
    def answer(asked: Asked) -> Reply:
        return refusal if asked.path.endswith("/events/") else Reply(200, execution())

    server.will(answer)
    said = sfcp("run", "intersect")
    assert said.status == 0
    assert "There is no stream of events" in said.err


def test_a_run_that_nobody_waits_for(sfcp: Run, server: Server) -> None:
    server.will(Reply(201, execution("QUEUED")))
    assert sfcp("run", "intersect", "--no-wait", "--priority", "5") == (0, "6a0e\n", "")
    assert [(asked.method, asked.body) for asked in server.asked] == [("POST", {"task": "intersect", "priority": 5})]


def test_ctrl_c_leaves_it_running(sfcp: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    server.will(Reply(201, execution("QUEUED")))
    monkeypatch.setattr(commands, "follow", interrupted)
    said = sfcp("run", "intersect")
    assert (said.status, said.out) == (130, "6a0e\n")
    assert "sfcp cancel 6a0e" in said.err
    monkeypatch.setattr(Client, "get", interrupted)
    assert sfcp("result", "6a0e").status == 130


def test_overrides_are_json_or_a_file(sfcp: Run, server: Server, tmp_path: Path) -> None:
    server.will(Reply(201, execution("QUEUED")))
    changes = {"task_config": {"outputs": {"alice": "today"}, "x": None}}
    path = tmp_path / "changes.json"
    path.write_text(json.dumps(changes))
    for given in (json.dumps(changes), str(path)):
        assert sfcp("run", "intersect", "--no-wait", "--override", given).status == 0
    assert [asked.body["overrides"] for asked in server.asked] == [changes, changes]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "x", "--override", "{"], "--override is no JSON"),
        (["run", "x", "--override", "/nowhere.json"], "/nowhere.json cannot be read: No such file"),
        (["run", "x", "--override", "/dev/null"], "/dev/null is no JSON"),
        (["run", "x", "--override", "/tmp"], "/tmp cannot be read: Is a directory"),
        (["run", "x", "--override", '{"a": NaN}'], "JSON cannot hold"),
        (["run", "x", "--label", "team"], "'team' should be like team:risk"),
        (["run", "x", "--deadline", "tomorrow"], "'tomorrow' should be like 2030-"),
        (["result", "x", "--csv", "--json"], "not both"),
        (["result", ""], "by its id"),
        (["apply", "/nowhere.yaml"], "/nowhere.yaml cannot be read"),
        (["watch", "x", "--party", "alice"], "take no filter"),
    ],
)
def test_wrong_input_is_told_and_not_sent(sfcp: Run, server: Server, arguments: list[str], text: str) -> None:
    server.will(Reply(201, execution()))
    said = sfcp(*arguments)
    assert (said.status, server.asked) == (3, [])
    assert text in said.err


def test_wrong_options_are_told(sfcp: Run) -> None:
    for line in ("run", "runn", "list --limit 0", "run x --priority high", "--timeout x"):
        said = sfcp(*line.split())
        assert said.status == 2
        assert "Error" in said.err or "Usage" in said.err


@pytest.mark.parametrize(
    ("reply", "texts"),
    [
        (problem("not-authenticated", 401, (None, "Invalid token.")), ["Invalid token.", "Is SFCP_TOKEN the token"]),
        (problem("forbidden", 403), ["A detail.", "Ask an administrator"]),
        (problem("invalid", 400, ("task", "no such task"), ("x", "y")), ["- task: no such task", "- x: y"]),
        (Reply(200, "<html>"), ["is no JSON"]),
        (problem("invalid", 400, (None, f"Token {TOKEN} is odd")), ["Token *** is odd"]),
        (
            Reply(302, "", {"Location": f"https://login.example/?t={TOKEN}"}),
            ["it leads to https://login.example/?t=***"],
        ),
    ],
)
@pytest.mark.parametrize("command", ["list", "run x", "watch", "logs x", "result x", "cancel x", "retry x"])
def test_a_refusal_is_a_line_and_a_status(
    sfcp: Run, server: Server, reply: Reply, texts: list[str], command: str
) -> None:
    server.will(reply)
    said = sfcp(*command.split())
    assert (said.status, said.out) == (3, "")
    assert all(text in said.err or command == "watch" for text in texts)


def test_nobody_there(sfcp: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secretflow_controlplane_client.protocol.Retry.pause", lambda *_: None)
    said = sfcp("list", url="http://127.0.0.1:1")
    assert said.status == 3
    assert "does not answer" in said.err
    assert "Is SFCP_URL right" in said.err


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"url": ""}, "Set SFCP_URL, or give --url."),
        ({"token": ""}, "Set SFCP_TOKEN, or give --token."),
        ({"url": "control"}, "should be like https://"),
        ({"token": f"{TOKEN}\n{TOKEN}"}, "has characters that no token has"),
    ],
)
def test_settings_that_are_missing_or_wrong(sfcp: Run, given: dict[str, str], text: str) -> None:
    said = sfcp("list", **given)
    assert said.status == 3
    assert text in said.err


def test_a_fault_of_its_own_is_a_line_too(sfcp: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"something with {TOKEN}")

    monkeypatch.setattr(Client, "list", broken)
    said = sfcp("list")
    assert said.status == 70
    assert said.err.startswith("sfcp has failed: RuntimeError: something with ***\n")


def test_watching_one_and_all(sfcp: Run, server: Server) -> None:
    told = [state(1, "QUEUED"), event(1, "alice", "load"), state(2, "FAILURE")]
    server.will(site(*told, end=execution("FAILURE", error=ERROR)))
    said = sfcp("watch", "6a0e")
    assert said.status == 1
    lines = [line.split()[1:] for line in said.out.splitlines()]
    assert lines == [["QUEUED"], ["alice", "RUNNING", "load"], ["FAILURE"]]
    assert "cause: bob" in said.err
    server.will(stream(*told), problem("forbidden", 403))
    said = sfcp("watch", "--label", "team:risk", "--json")
    assert said.status == 3
    assert [json.loads(line)["id"] for line in said.out.splitlines()] == ["state-1", "event-1", "state-2"]
    assert server.asked[-1].query == {"label": ["team:risk"]}


def test_logs(sfcp: Run, server: Server) -> None:
    line = {"party": "alice", "at": "2026-12-01T06:00:00Z", "level": "info", "source": "a.py:1", "text": "[bold]é[/]"}
    server.will(Reply(200, {"next": None, "results": [line]}))
    said = sfcp("logs", "6a0e", "--party", "alice", "--level", "info")
    assert said.out.endswith("alice  info  [bold]é[/]  (a.py:1)\n")
    assert server.asked[0].query == {"party": ["alice"], "level": ["info"]}
    assert json.loads(sfcp("logs", "6a0e", "--json").out)["text"] == "[bold]é[/]"


RESULT = {
    "metrics": {"auc": 0.99264705882, "=1+1": "=cmd"},
    "warnings": ["few rows"],
    "reports": {"alice": [{"name": "weights", "values": {"n": 3}, "tables": [
        {"name": "weights", "columns": ["feature", "w"], "rows": [["age", 1.5], ["x, y", None]], "left_out": 0}]}]},
}  # fmt: skip


def test_a_result_as_text_csv_and_json(sfcp: Run, server: Server) -> None:
    server.will(Reply(200, execution(result=RESULT)))
    assert json.loads(sfcp("result", "6a0e", "--json").out) == RESULT
    rows = list(csv.reader(io.StringIO(sfcp("result", "6a0e", "--csv").out)))
    assert rows == [
        ["name", "value"],
        ["metrics.auc", "0.99264705882"],
        ["metrics.=1+1", "'=cmd"],
        ["warnings.0", "few rows"],
        ["reports.alice.weights.values.n", "3"],
        [],
        ["reports.alice.weights.tables.weights"],
        ["feature", "w"],
        ["age", "1.5"],
        ["x, y", ""],
    ]
    text = sfcp("result", "6a0e").out
    assert "0.992647" in text
    assert "few rows" in text


@pytest.mark.parametrize(
    ("found", "status", "text"),
    [
        (execution("RUNNING"), 3, "There is no result, as the execution is RUNNING"),
        (execution("FAILURE", error=ERROR), 1, "cause: bob, stage load_data"),
        (execution(result=None), 0, ""),
        (execution(result={"metrics": {"a": "b"}}), 0, ""),
    ],
)
def test_no_result(sfcp: Run, server: Server, found: dict[str, Any], status: int, text: str) -> None:
    server.will(Reply(200, found))
    said = sfcp("result", "6a0e")
    assert said.status == status
    assert text in said.err


def test_a_list(sfcp: Run, server: Server) -> None:
    rows = [execution(id=f"{n}", name="[red]x", created_at="2026-12-01T06:00:00Z", seconds=1.25) for n in range(3)]
    server.will(Reply(200, {"next": "/?cursor=more", "results": rows}))
    said = sfcp("list", "--limit", "2", "--status", "queued", "--status", "RUNNING", "--label", "team:risk")
    assert said.out.count("[red]x") == 2
    assert server.asked[0].query == {"status": ["QUEUED", "RUNNING"], "page_size": ["2"], "label": ["team:risk"]}
    assert [row["id"] for row in json.loads(sfcp("list", "--limit", "3", "--json").out)] == ["0", "1", "2"]


def test_cancelling_and_running_again(sfcp: Run, server: Server) -> None:
    server.will(Reply(202, execution("CANCELLING")))
    assert sfcp("cancel", "a", "b").status == 0
    assert [asked.path for asked in server.asked] == [f"/api/v1/executions/{pk}/cancel/" for pk in "ab"]
    server.will(Reply(201, execution("QUEUED", id="new")))
    assert sfcp("retry", "old", "--no-wait").out == "new\n"
    assert server.asked[-1].path == "/api/v1/executions/old/retry/"


def complete(sfcp: Run, *words: str, **given: str) -> list[str]:
    line = " ".join(("sfcp", *words))
    env = {"_SFCP_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    said = sfcp(**env, **given)
    assert (said.status, said.err) == (0, ""), "what is told to somebody who has pressed Tab breaks the line"
    return said.out.split("\n")


def test_tab_completes_commands_tasks_and_executions(sfcp: Run, server: Server) -> None:
    assert "result" in complete(sfcp, "re")
    server.will(Reply(200, {"next": None, "results": [{"name": "intersect it"}, {"name": "predict"}]}))
    assert complete(sfcp, "run", "in")[0] == r"intersect\ it"
    assert complete(sfcp, "run", '"intersect i')[0] == "intersect it"
    assert not any(complete(sfcp, "run", r"intersect\ i")), "bash would take the backslash away"
    assert server.asked[0].headers["authorization"] == f"Token {TOKEN}"
    rows = [execution(id="6a0e-1", task="x"), execution(id="7b", task="x")]
    server.will(Reply(200, {"next": None, "results": rows}))
    assert "6a0e-1" in complete(sfcp, "cancel", "6a")[0]


def test_tab_completes_nothing_where_there_is_no_answer(sfcp: Run, server: Server) -> None:
    server.will(problem("forbidden", 403))
    for given in ({}, {"url": ""}, {"token": ""}, {"url": "http://127.0.0.1:1"}):
        assert not any(complete(sfcp, "run", "in", **given))


def test_the_guide_says_what_there_is() -> None:
    guide = (ROOT / "docs/services.md").read_text() + (ROOT / "client/README.md").read_text()
    lines = re.findall(r"^\$ sfcp ([^#\n]*)", guide, re.M)
    known: Any = get_command(commands.app)
    for line in lines:
        name, *arguments = shlex.split(line)
        if name in known.commands:
            known.commands[name].make_context(name, arguments)  # exits where it does not take them
        else:
            assert name == "--install-completion"
    assert set(known.commands) <= {line.split()[0] for line in lines}
    named = set(re.findall(r"\bclient\.(\w+)\(", guide))
    assert {"submit", "events", "result", "list", "resources"} <= named
    assert all(hasattr(Client, name) and hasattr(AsyncClient, name) for name in named)


def test_help_and_version(sfcp: Run) -> None:
    assert sfcp("--version").out == "0.1.0\n"
    said = sfcp("--help")
    assert "--install-completion" in said.out
    assert "SFCP_TOKEN" in said.out
