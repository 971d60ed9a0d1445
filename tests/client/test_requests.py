"""What the clients send, how often, and what they make of the answers."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest
from secretflow_controlplane_client import AsyncClient, Client, ControlPlaneError, Retry

from tests.client.conftest import Use
from tests.client.server import TOKEN, Asked, Reply, Server, execution, problem


def test_a_submission_is_sent_with_a_key_and_read_as_an_execution(use: Use, server: Server) -> None:
    server.will(Reply(201, execution("QUEUED", labels={"team": "risk"}, newer="field")))
    deadline = datetime(2030, 1, 31, 18, tzinfo=timezone.utc)
    made = use(
        lambda client: client.submit(
            "intersect", labels={"team": "risk"}, overrides={"task_config": {"x": None}}, deadline=deadline, name=None
        )
    )
    assert (made.id, made.status, made.has_ended, made.labels, made.newer) == (
        "6a0e",
        "QUEUED",
        False,
        {"team": "risk"},
        "field",
    )
    [asked] = server.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/executions/")
    assert asked.headers["authorization"] == f"Token {TOKEN}"
    assert asked.body == {
        "task": "intersect",
        "labels": {"team": "risk"},
        "overrides": {"task_config": {"x": None}},
        "deadline": "2030-01-31T18:00:00+00:00",
    }
    assert UUID(asked.key)


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(breaks=True),
        Reply(200, '{"id": "6a', breaks=True),
        problem("in-progress", 409, (None, "at work"), Retry_After="0"),
        problem("overloaded", 503, (None, "too much"), Retry_After="0"),
        problem("too-many-requests", 429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        Reply(502, "<html>Bad Gateway</html>", {"Content-Type": "text/html"}),
    ],
    ids=["no answer", "half an answer", "in progress", "overloaded", "too many", "a proxy"],
)
def test_a_write_is_sent_again_with_the_same_key(use: Use, server: Server, refusal: Reply) -> None:
    server.will(refusal, refusal, Reply(202, execution("CANCELLING")))
    assert use(lambda client: client.cancel("6a0e")).status == "CANCELLING"
    assert [asked.path for asked in server.asked] == ["/api/v1/executions/6a0e/cancel/"] * 3
    assert len({asked.key for asked in server.asked}) == 1
    assert server.asked[0].key


def test_two_writes_have_two_keys(use: Use, server: Server) -> None:
    server.will(Reply(201, execution("QUEUED")))
    for _ in range(2):
        use(lambda client: client.retry("6a0e", priority=5))
    assert len({asked.key for asked in server.asked}) == 2
    assert server.asked[0].body == {"priority": 5}


def test_it_gives_up_after_so_many_tries(use: Use, server: Server) -> None:
    server.will(problem("unavailable", 503, Retry_After="0"))
    with pytest.raises(ControlPlaneError) as refused:
        use(lambda client: client.get("6a0e"))
    assert (refused.value.kind, refused.value.status, len(server.asked)) == ("unavailable", 503, 3)


def test_it_waits_for_as_long_as_it_is_told_and_not_beyond_its_limit(use: Use, server: Server) -> None:
    server.will(problem("overloaded", 503, Retry_After="10"))
    with pytest.raises(ControlPlaneError) as refused:
        use(lambda client: client.get("6a0e"))
    assert (refused.value.retry_after, len(server.asked)) == (10, 1), "ten seconds are more than its five"


@pytest.mark.parametrize(("kind", "status"), [("conflict", 409), ("invalid", 400), ("internal", 500), ("stale", 412)])
def test_what_another_try_cannot_help_is_sent_once(use: Use, server: Server, kind: str, status: int) -> None:
    server.will(problem(kind, status, ("spu_config.runtime_config.protocol", "ABY3 needs 3"), ("x", "y")))
    with pytest.raises(ControlPlaneError) as refused:
        use(lambda client: client.submit("intersect"))
    error = refused.value
    assert (error.kind, error.status, len(server.asked)) == (kind, status, 1)
    assert [(e.path, e.code, e.detail) for e in error.errors] == [
        ("spu_config.runtime_config.protocol", "invalid", "ABY3 needs 3"),
        ("x", "invalid", "y"),
    ]
    assert error.text.splitlines() == [
        "There are 2 problems:",
        "- spu_config.runtime_config.protocol: ABY3 needs 3",
        "- x: y",
    ]
    assert str(error).endswith(f"({status} {kind}, POST /api/v1/executions/)")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(200, "<html>Sign in</html>", {"Content-Type": "text/html"}), "no JSON"),
        (Reply(200, [1]), "not what the control plane's API answers"),
        (Reply(200, {"id": "6a0e"}), "status"),
        (Reply(404, "<html>nginx</html>", {"Content-Type": "text/html"}), "404 Not Found; check the address"),
        (Reply(301, "", {"Location": "https://control.example/"}), "it leads to https://control.example/"),
        (Reply(299, ""), "not what the control plane's API answers"),
    ],
)
def test_what_is_no_answer_of_the_api_is_an_error(use: Use, server: Server, reply: Reply, text: str) -> None:
    server.will(reply)
    with pytest.raises(ControlPlaneError) as refused:
        use(lambda client: client.get("6a0e"))
    assert refused.value.kind == "unexpected"
    assert text in str(refused.value)
    assert len(server.asked) == 1


def test_nobody_there_is_an_error(server: Server) -> None:
    server.close()
    with Client(server.url, TOKEN, retry=Retry(attempts=2)) as client, pytest.raises(ControlPlaneError) as refused:
        client.get("6a0e")
    assert (refused.value.kind, refused.value.status) == ("unreachable", None)


def test_lists_follow_cursors_and_send_the_token_to_no_other_host(use: Use, server: Server) -> None:
    def page(asked: Asked) -> Reply:
        number = int(asked.query.get("cursor", ["0"])[0])
        following = f"https://evil.example/api/v1/executions/?cursor={number + 1}&status=X" if number < 2 else None
        return Reply(200, {"next": following, "results": [execution(id=f"{number}-{row}") for row in range(2)]})

    server.will(page)
    found = use(
        lambda client: client.list(
            status=["QUEUED", "RUNNING"], label={"team": "risk"}, has_warnings=True, task=None, page_size=2
        )
    )
    assert [one.id for one in found] == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]
    assert [asked.query.get("cursor") for asked in server.asked] == [None, ["1"], ["2"]]
    for asked in server.asked:
        assert asked.query["status"] == ["QUEUED", "RUNNING"]
        assert (asked.query["label"], asked.query["has_warnings"], asked.query["page_size"]) == (
            ["team:risk"],
            ["true"],
            ["2"],
        )
        assert "task" not in asked.query


def test_waiting_asks_again_until_the_end(use: Use, server: Server) -> None:
    waiting, running = Reply(200, execution("QUEUED")), Reply(200, execution("RUNNING"))
    server.will(waiting, Reply(503, ""), running, Reply(200, execution()))
    assert use(lambda client: client.wait("6a0e", 20)).status == "SUCCESS"
    assert len(server.asked) == 4
    assert 15 < float(server.asked[0].query["wait"][0]) <= 20


def test_waiting_has_a_limit(use: Use, server: Server) -> None:
    server.will(Reply(200, execution("RUNNING")))
    with pytest.raises(ControlPlaneError) as refused:
        use(lambda client: client.wait("6a0e", 0.3))
    assert refused.value.kind == "time-limit"
    assert 2 <= len(server.asked) <= 6, "it asks again, and not without a pause"


def test_a_result_and_none(use: Use, server: Server) -> None:
    server.will(Reply(200, execution(result={"intersection_count": {"alice": 3}, "warnings": ["few"], "other": 1})))
    found = use(lambda client: client.result("6a0e"))
    assert (found.intersection_count, found.warnings, found.other) == ({"alice": 3}, ["few"], 1)
    assert found.as_dict() == {"intersection_count": {"alice": 3}, "warnings": ["few"], "other": 1}
    error = {"type": "DataError", "party": "bob", "stage": "load", "message": "no such column"}
    server.will(Reply(200, execution("FAILURE", error=error)))
    with pytest.raises(ControlPlaneError, match="bob, stage load: no such column") as refused:
        use(lambda client: client.result("6a0e"))
    assert refused.value.kind == "not-successful"


def test_a_dry_run_asks_with_the_same_body(use: Use, server: Server) -> None:
    wrong = {"path": "task_config.x", "wrong": "unknown key", "right": "leave it out"}
    server.will(Reply(200, {"valid": False, "verdict": "It would be refused.", "problems": [wrong]}))
    found = use(lambda client: client.dry_run(documents={"task_config": {"x": 1}}))
    assert (found.valid, found.problems[0].path) == (False, "task_config.x")
    assert (server.asked[0].path, server.asked[0].body) == ("/api/v1/executions/dry-run/", {"task_config": {"x": 1}})


def test_logs_and_events_are_read_by_pages(use: Use, server: Server) -> None:
    line = {"party": "alice", "attempt": 1, "at": "2026-12-01T06:00:00Z", "level": "info", "source": "", "text": "hi"}
    server.will(Reply(200, {"next": "/?cursor=b", "results": [line]}), Reply(200, {"next": None, "results": [line]}))
    assert [told.text for told in use(lambda client: client.logs("6a0e", level="info"))] == ["hi", "hi"]
    assert [asked.query for asked in server.asked] == [{"level": ["info"]}, {"level": ["info"], "cursor": ["b"]}]


def test_what_is_registered_is_changed_only_as_it_was_read(use: Use, server: Server) -> None:
    row = {"id": 7, "name": "intersect", "version": 3, "cluster": "both"}
    found = {"next": None, "results": [row]}

    def answer(asked: Asked) -> Reply:
        if asked.method == "GET":
            return Reply(200, found if asked.path.endswith("/tasks/") else row, {"ETag": 'W/"3-abc"'})
        if asked.method == "DELETE":
            return Reply(204)
        return Reply(200, row | {"version": 4}, {"ETag": '"4-def"'})

    server.will(answer)
    task = use(lambda client: client.resources("tasks").get("intersect"))
    assert (task.id, task["cluster"], task.etag) == (7, "both", '"3-abc"')
    changed = use(lambda client: client.resources("tasks").patch(task, description="x"))
    use(lambda client: client.resources("tasks").delete(changed))
    use(lambda client: client.resources("tasks").patch(7, description="x"))
    sent = [(a.method, a.path, a.headers.get("if-match"), a.body) for a in server.asked[2:]]
    assert sent == [
        ("PATCH", "/api/v1/tasks/7/", '"3-abc"', {"description": "x"}),
        ("DELETE", "/api/v1/tasks/7/", '"4-def"', None),
        ("PATCH", "/api/v1/tasks/7/", None, {"description": "x"}),
    ]
    assert all(asked.key for asked in server.asked[2:])


def test_a_name_that_nothing_or_too_much_has(use: Use, server: Server) -> None:
    for rows, kind in (([], "not-found"), ([{"id": 1}, {"id": 2}], "invalid")):
        server.will(Reply(200, {"next": None, "results": rows}))
        with pytest.raises(ControlPlaneError) as refused:
            use(lambda client: client.resources("datasets").get("customers", party__name="alice"))
        assert refused.value.kind == kind
    assert server.asked[0].query["party__name"] == ["alice"]


@pytest.mark.parametrize("token", ["", "  ", "a\nb", "a b", "päss"])
def test_a_token_that_is_none_is_refused_and_not_told(token: str) -> None:
    with pytest.raises(ControlPlaneError) as refused:
        Client("http://127.0.0.1:1", token)
    assert refused.value.kind == "input"
    assert not token.strip() or token not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["", "control.example", "ftp://control.example", "http://", "http://me:secret@control.example", "http://x/?a=b",
     "http://x:99999"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ControlPlaneError) as refused:
        Client(url, TOKEN)
    assert refused.value.kind == "input"
    assert "secret" not in str(refused.value)


def test_the_token_is_told_nowhere() -> None:
    with Client("http://127.0.0.1:1/api/v1/", TOKEN) as client:
        assert (repr(client), client.url) == ("Client('http://127.0.0.1:1')", "http://127.0.0.1:1")
    assert TOKEN not in repr(AsyncClient("http://127.0.0.1:1", TOKEN))


def test_what_json_cannot_hold_is_an_error(use: Use, server: Server) -> None:
    server.will(Reply(201, execution()))
    cases: list[Any] = [float("nan"), object(), {1: object()}]
    for value in cases:
        with pytest.raises(ControlPlaneError) as refused:
            use(lambda client, value=value: client.submit("x", overrides={"task_config": value}))
        assert refused.value.kind == "input"
    assert server.asked == []


def test_any_request_can_be_sent(use: Use, server: Server) -> None:
    server.will(Reply(200, {"version": 2}))
    assert use(lambda client: client.call("GET", "schema/?format=json")) == {"version": 2}
    assert use(lambda client: client.call("GET", "https://inside.example/api/v1/tasks/7/")) == {"version": 2}
    use(lambda client: client.call("PATCH", "/api/v1/site/", {"security": "trial"}))
    assert [(a.method, a.path, a.query, a.body, bool(a.key)) for a in server.asked] == [
        ("GET", "/api/v1/schema/", {"format": ["json"]}, None, False),
        ("GET", "/api/v1/tasks/7/", {}, None, False),
        ("PATCH", "/api/v1/site/", {}, {"security": "trial"}, True),
    ]
