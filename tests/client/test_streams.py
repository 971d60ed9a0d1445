"""Streams of events: read, taken up again where they broke, and ended."""

from __future__ import annotations

import pytest
from secretflow_controlplane_client import ControlPlaneError, EventTold, Gap, Retry, StateTold
from secretflow_controlplane_client.stream import Watching

from tests.client.conftest import Use
from tests.client.server import Asked, Reply, Server, event, execution, problem, state, stream


def test_an_execution_is_told_from_its_beginning_to_its_end(use: Use, server: Server) -> None:
    server.will(stream(state(1, "QUEUED"), event(5, "alice", "load", progress=0.5), state(2, "SUCCESS"), state(3, "X")))
    told = use(lambda client: client.events("6a0e"))
    assert [type(one) for one in told] == [StateTold, EventTold, StateTold]
    assert (told[1].party, told[1].stage, told[1].data, told[1].position) == ("alice", "load", {"progress": 0.5}, "0.5")
    [asked] = server.asked
    assert (asked.path, asked.headers["last-event-id"]) == ("/api/v1/executions/6a0e/events/", "0.0")
    assert asked.headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("breaks", [True, False], ids=["it breaks", "it ends"])
def test_it_goes_on_where_the_connection_broke(use: Use, server: Server, breaks: bool) -> None:
    half = stream(state(1, "QUEUED"), state(2, "RUNNING"), breaks=breaks)
    half.body += "id: 3.0\nevent: state\ndata: {"  # of which no end comes
    server.will(half, Reply(breaks=True), problem("unavailable", 503, Retry_After="0"), stream(state(3, "SUCCESS")))
    told = use(lambda client: client.events("6a0e"), retry=Retry(attempts=5, seconds=5))
    assert [one.status for one in told] == ["QUEUED", "RUNNING", "SUCCESS"]
    assert [asked.headers["last-event-id"] for asked in server.asked[:2]] == ["0.0", "2.0"]
    assert len(server.asked) == 4


def test_what_comes_twice_is_told_once(use: Use, server: Server) -> None:
    server.will(
        stream(state(1, "QUEUED", "a"), state(2, "QUEUED", "b")),
        stream(state(2, "QUEUED", "b"), state(3, "RUNNING", "a")),
        problem("forbidden", 403),
    )
    found: list[StateTold] = []
    with pytest.raises(ControlPlaneError) as refused:
        use(lambda client: _kept(client.events(label={"team": "risk"}, kind="state"), found))
    assert refused.value.kind == "forbidden"
    assert [(one.execution, one.status) for one in found] == [("a", "QUEUED"), ("b", "QUEUED"), ("a", "RUNNING")]
    assert server.asked[0].query == {"label": ["team:risk"], "kind": ["state"]}
    assert "last-event-id" not in server.asked[0].headers


def _kept(told: object, found: list[StateTold]) -> object:
    """Keeps what is told before an error."""
    if hasattr(told, "__aiter__"):

        async def later() -> None:
            async for one in told:
                found.append(one)

        return later()
    for one in told:  # type: ignore[attr-defined]
        found.append(one)
    return None


def test_it_gives_up_after_so_many_tries(use: Use, server: Server) -> None:
    server.will(Reply(breaks=True))
    with pytest.raises(ControlPlaneError) as refused:
        use(lambda client: client.events("6a0e"))
    assert (refused.value.kind, len(server.asked)) == ("unreachable", 3)


def test_a_gap_is_told_and_the_end_is_found_without_the_stream(use: Use, server: Server) -> None:
    def answer(asked: Asked) -> Reply:
        return stream(("9.9", "gap", {"detail": "too much"})) if "events" in asked.path else Reply(200, execution())

    server.will(answer)
    [gap] = use(lambda client: client.events("6a0e"))
    assert isinstance(gap, Gap)
    assert gap.detail == "too much"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"id": "6a0e"}),
        Reply(200, "retry: 1\n\nid: 1.0\nevent: state\ndata: {\n\n", {"Content-Type": "text/event-stream"}),
        Reply(200, 'retry: 1\n\nevent: state\ndata: {"id": 1}\n\n', {"Content-Type": "text/event-stream"}),
    ],
    ids=["no stream", "no JSON", "no event"],
)
def test_what_is_no_stream_of_the_api_is_an_error(use: Use, server: Server, reply: Reply) -> None:
    server.will(reply)
    with pytest.raises(ControlPlaneError) as refused:
        use(lambda client: client.events("6a0e"))
    assert refused.value.kind == "unexpected"


def test_events_of_one_execution_take_no_filter(use: Use, server: Server) -> None:
    with pytest.raises(ControlPlaneError, match="take no filter"):
        use(lambda client: client.events("6a0e", party="alice"))


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_pieces_of_a_stream_are_put_together(size: int, end: str) -> None:
    text = (
        'retry: 1000\n\n: still here\n\nid: 1.0\nevent: state\ndata: {"id": "state-1", "execution": "é",\n'
        'data: "status": "QUEUED", "at": "2026-12-01T06:00:00Z"}\nunknown\n\nid: 2.0\n\nevent: later\ndata: {}\n\n'
    )
    raw = text.replace("\n", end).encode() + b"\n"
    watching = Watching("", {}, "", Retry())
    told = [one for at in range(0, len(raw), size) for one in watching.read(raw[at : at + size])]
    [one] = told
    assert isinstance(one, StateTold)
    assert (one.execution, one.status, one.position) == ("é", "QUEUED", "1.0")
    assert watching.position == "2.0", "an id without data counts, too"


def test_a_quiet_stream_that_ends_every_hour_is_taken_up_for_ever() -> None:
    watching = Watching("", {}, "", Retry(attempts=2, seconds=1))
    for _ in range(10):
        list(watching.read(b": still here\n\n"))
        assert watching.pause(None) <= 1
    with pytest.raises(ControlPlaneError, match="again and again"):
        watching.pause(None)
