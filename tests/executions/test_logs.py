"""Lines of parties' logs at the control plane: each once, bounded, shown, and in nobody's way."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.utils import timezone
from redis import Redis

from executions.admin import log_panel
from executions.coordinator import dead_letters, isolation, logs
from executions.coordinator.listener import Listener, is_progress
from executions.coordinator.pruning import Pruning
from executions.diagnosis.bundle import diagnose
from executions.models import DeadLetter, Execution, LogChunk
from executions.models.log import in_order
from tests import keys
from tests.composed import admin_as, admin_client, api_as, api_client, make_user, superuser
from tests.simulated import finish
from workers.contract.keys import stream_of
from workers.contract.logs import LEVELS, MESSAGE_LIMIT, MOST_LINES, TEXT_LENGTH

NOW = 1_796_079_863.5


@pytest.fixture(autouse=True)
def a_new_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters._Minute, "began", 0.0)
    monkeypatch.setattr(dead_letters._Minute, "letters", Counter())
    monkeypatch.setattr(isolation, "_told", {})


def message(execution: Execution, *texts: str, level: int = 20, at: float = NOW, **changes: Any) -> dict[str, Any]:
    lines = [(at + number, level, "task_run.py:1", text) for number, text in enumerate(texts)]
    about = {"task_request_id": str(execution.pk), "party": "alice", "attempt": 1, "sequence": 1}
    return about | {"lines": lines, "dropped": 0} | changes


def send(connection: Redis, content: Any, party: str = "alice") -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content)
    keys.send(connection, party, log=raw)


def hear(connection: Redis) -> None:
    Listener(connection).step()


def texts(execution: Execution) -> list[str]:
    return [line["text"] for line in in_order(execution.logs.all())]


def reasons() -> list[str]:
    return list(DeadLetter.objects.values_list("reason", flat=True))


# --- the listener


def test_lines_are_kept_once_and_in_order(execution: Execution, connection: Redis) -> None:
    second = message(execution, "three", sequence=2, at=NOW + 9)
    first = message(execution, "one", "two")
    for said in (second, first, first):
        send(connection, said)
    send(connection, message(execution, "of bob", party="bob", at=NOW + 0.5), "bob")
    hear(connection)
    send(connection, first)
    hear(connection)
    assert texts(execution) == ["one", "of bob", "two", "three"]
    assert not connection.xlen(stream_of("alice"))
    assert not reasons()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"party": "bob"}, "another party"),
        ({"lines": [[1.0, 20, "x"]]}, "lines"),
        ({"lines": [[NOW, 20, "x", "y"]] * (MOST_LINES + 1)}, "lines"),
        ({"lines": "x" * 10}, "lines"),
        ({"sequence": 0}, "sequence"),
        ({"dropped": -1}, "dropped"),
        ({"task_request_id": "x"}, "task_request_id"),
        ({"lines": [[NOW, 20, "x", "y" * 3 * MESSAGE_LIMIT]]}, "longer than"),
    ],
)
def test_what_is_no_message_is_set_aside(
    execution: Execution, connection: Redis, changes: dict[str, Any], reason: str
) -> None:
    send(connection, message(execution, "x") | changes)
    send(connection, message(execution, "good", sequence=2))
    hear(connection)
    assert [reason in told for told in reasons()] == [True]
    assert texts(execution) == ["good"]


def test_only_the_party_s_own_signed_lines_count(execution: Execution, connection: Redis) -> None:
    connection.xadd(stream_of("alice"), {"log": json.dumps(message(execution, "unsigned"))})
    connection.xadd(stream_of("alice"), keys.signed("bob", {"log": json.dumps(message(execution, "bob's"))}))
    hear(connection)
    assert not texts(execution)
    assert len(reasons()) == 2


def test_lines_of_a_run_that_the_party_does_not_have_are_dropped(execution: Execution, connection: Redis) -> None:
    for changes in ({"attempt": 2}, {"task_request_id": str(uuid4())}):
        send(connection, message(execution, "x") | changes)
    hear(connection)
    assert not LogChunk.objects.exists()


@pytest.mark.parametrize("limit", ["LINES_OF_A_RUN", "BYTES_OF_A_RUN"])
def test_a_run_s_log_is_bounded(
    execution: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(logs, limit, {"LINES_OF_A_RUN": 250, "BYTES_OF_A_RUN": 15_000}[limit])
    for number in range(1, 6):
        send(connection, message(execution, *["x"] * 100, sequence=number))
        if number % 2:
            hear(connection)
    assert LogChunk.objects.count() == {"LINES_OF_A_RUN": 2, "BYTES_OF_A_RUN": 3}[limit]
    assert not connection.xlen(stream_of("alice"))


def test_what_a_party_says_is_made_storable(execution: Execution, connection: Redis) -> None:
    raw = json.dumps(message(execution, "a\0b", "c" * 9000, level=10**9, at=-1e300)).replace("-1e+300", "NaN")
    send(connection, raw.encode())
    send(connection, message(execution, "late", at=1e300, sequence=2))
    send(connection, json.dumps(message(execution, "\ud800", sequence=3)).encode())
    hear(connection)
    found = [line for chunk in execution.logs.all() for line in chunk.rows()]
    assert all(line["level"] in LEVELS and len(line["text"]) <= TEXT_LENGTH for line in found)
    assert admin_client(superuser()).get(f"/admin/executions/execution/{execution.pk}/logs/").status_code == 200


def test_events_count_whatever_becomes_of_the_lines(
    execution: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> Any:
        raise ValueError("nobody thought of this")

    monkeypatch.setattr(logs, "LogChunk", fail)
    send(connection, message(execution, "x"))
    begun = {"status": "RUNNING", "timestamp": "2026-01-04T00:38:00+00:00", "data": {"stage": "sf_init"}}
    keys.send_event(connection, "alice", json.dumps(message(execution) | begun))
    hear(connection)
    assert execution.runs.get(party__name="alice").stage == "sf_init"
    assert not connection.xlen(stream_of("alice"))


def test_a_flood_of_lines_delays_no_other_party(execution: Execution, connection: Redis) -> None:
    for number in range(1, 400):
        send(connection, message(execution, "x", sequence=number))
    begun = {"status": "RUNNING", "timestamp": "2026-01-04T00:38:00+00:00", "data": {"stage": "sf_init"}}
    keys.send_event(connection, "bob", json.dumps(message(execution, party="bob") | begun))
    hear(connection)
    assert execution.runs.get(party__name="bob").stage == "sf_init"
    assert connection.xlen(stream_of("alice"))


def test_lines_alone_wake_the_coordinator_to_nothing_else() -> None:
    batch = {"events:alice": [(b"1", {b"log": b'{"lines":[]}', b"signature": b"x"})]}
    assert is_progress(batch)
    assert not is_progress(batch | {"events:bob": [(b"1", {b"ready": b"w"})]})


# --- the page


@pytest.fixture
def logged(execution: Execution, connection: Redis) -> Execution:
    send(connection, message(execution, "fine"))
    send(connection, message(execution, "odd <b>", level=30, at=NOW + 1, sequence=2, dropped=7))
    hear(connection)
    return execution


def page(execution: Execution, query: str = "", part: str = "change") -> str:
    answer = admin_client(superuser()).get(f"/admin/executions/execution/{execution.pk}/{part}/{query}")
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_the_page_shows_lines_and_whose_log_stays_at_home(logged: Execution) -> None:
    shown = page(logged)
    assert "fine" in shown
    assert "odd &lt;b&gt;" in shown
    assert "(7 lines were left out here; the party&#x27;s host has them)" in shown
    told = f"<code>manage.py party logs {str(logged.pk)[:8]}</code>"
    assert f"Nothing of bob's log has come. It is on its own host: {told}" in shown
    finish(logged)
    assert f"bob keeps its log on its own host: {told}" in page(logged)
    assert "alice keeps" not in page(logged)


def test_without_lines_the_page_says_where_they_are(execution: Execution) -> None:
    shown = page(execution)
    assert "Download" not in shown.split('id="logs-title"')[1].split("</section>")[0]
    assert shown.count("manage.py party logs") == 2


def test_lines_are_filtered_by_party_and_level(logged: Execution, connection: Redis) -> None:
    send(connection, message(logged, "bob's", party="bob"), "bob")
    hear(connection)
    for query, there in (
        ("?log_level=warning", {"odd"}), ("?log_party=bob", {"bob's"}), ("?log_party=alice&log_level=error", set()),
        ("?log_party=zzz&log_level=zzz", {"fine", "odd", "bob's"}), ("?log_party=%00", {"fine", "odd", "bob's"}),
    ):  # fmt: skip
        for part in ("change", "logs"):
            shown = page(logged, query, part).split('id="logs-title"')[1].split("</section>")[0].replace("&#x27;", "'")
            assert {text for text in ("fine", "odd", "bob's") if text in shown.split("<tbody>")[1]} == there, query


def test_a_tail_fetches_what_is_new_alone(logged: Execution, connection: Redis) -> None:
    client = admin_client(superuser())
    url = f"/admin/executions/execution/{logged.pk}/logs/"
    place = client.get(url)["X-Place"]
    again = client.get(f"{url}?after={place}")
    assert (again["X-Place"], again.content.decode().strip()) == (place, "")
    send(connection, message(logged, "new", sequence=3))
    hear(connection)
    more = client.get(f"{url}?after={place}")
    assert "new" in more.content.decode()
    assert "fine" not in more.content.decode()
    assert int(more["X-Place"]) > int(place)
    for odd in ("x", "-1", "9" * 30, "%00"):
        assert client.get(f"{url}?after={odd}").status_code == 200


def test_no_more_than_the_last_lines_are_shown(
    logged: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_panel, "SHOWN_LINES", 50)
    for number in range(3, 8):
        send(
            connection,
            message(logged, *[f"line {number}.{n}" for n in range(30)], sequence=number, at=NOW + number * 99),
        )
    hear(connection)
    shown = page(logged, part="logs")
    assert shown.count("<tr") == 51
    assert "line 7.29" in shown
    assert "The latest 50 lines" in shown
    whole = page(logged, "?download=1", "logs")
    assert len(whole.splitlines()) == 153


def test_the_download_is_text(logged: Execution) -> None:
    answer = admin_client(superuser()).get(
        f"/admin/executions/execution/{logged.pk}/logs/?download=1&log_level=warning"
    )
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert f"log-{str(logged.pk)[:8]}.txt" in answer["Content-Disposition"]
    assert answer.content.decode().splitlines()[-1] == "2026-11-30 23:04:24.500 alice WARNING task_run.py:1: odd <b>"


def test_who_may_not_see_an_execution_sees_no_log_of_it(logged: Execution) -> None:
    url = f"/admin/executions/execution/{logged.pk}/logs/"
    assert admin_as("nobody").get(url).status_code == 403
    stranger = make_user("of-nobody", "view_execution", parties=[])
    assert admin_client(stranger).get(url).status_code == 404
    assert api_client(stranger).get(f"/api/v1/executions/{logged.pk}/logs/").status_code == 404
    assert api_as("no-one").get(f"/api/v1/executions/{logged.pk}/logs/").status_code == 403


# --- the API, the diagnosis, and how long lines are kept


def test_the_api_has_filters_and_pages(logged: Execution, connection: Redis) -> None:
    send(connection, message(logged, "bob's", party="bob"), "bob")
    hear(connection)
    client = api_client(superuser())
    url = f"/api/v1/executions/{logged.pk}/logs/"

    def found(query: str) -> list[str]:
        answer = client.get(url + query)
        assert answer.status_code == 200
        return [line["text"] for line in answer.json()["results"]]

    assert found("")[:3:2] == ["fine", "odd <b>"]
    assert found("?party=bob") == ["bob's"]
    assert found("?attempt=2") == []
    assert found("?level=warning&party=alice")[-1] == "odd <b>"
    assert client.get(f"{url}?level=loud").status_code == 400
    first = client.get(f"{url}?page_size=1").json()
    assert [line["text"] for line in first["results"]] == ["fine"]
    assert [line["text"] for line in client.get(first["next"]).json()["results"]][-1] == "odd <b>"
    assert client.get(f"/api/v1/executions/{logged.pk}/").json()["logs_url"].endswith(url)
    assert client.get(url).json()["results"][0] == {
        "party": "alice", "attempt": 1, "at": "2026-11-30T23:04:23.500000Z", "level": "info",
        "source": "task_run.py:1", "text": "fine",
    }  # fmt: skip


def test_the_diagnosis_has_what_parties_sent(logged: Execution) -> None:
    with zipfile.ZipFile(io.BytesIO(diagnose(logged))) as archive:
        assert archive.read("logs/alice-1.log").decode().splitlines()[-1].endswith("WARNING task_run.py:1: odd <b>")
        assert f"manage.py party logs {str(logged.pk)[:8]}" in archive.read("README.txt").decode()


def test_lines_go_before_their_execution_and_with_it(logged: Execution) -> None:
    LogChunk.objects.filter(sequence=1).update(received_at=timezone.now() - timedelta(days=31))
    while Pruning().step(10):
        pass
    assert texts(logged)[-1:] == ["odd <b>"]
    assert LogChunk.objects.count() == 1
    logged.delete()
    assert not LogChunk.objects.exists()


def test_the_schema_has_the_address(db: None) -> None:
    out = io.StringIO()
    call_command("spectacular", "--format", "openapi-json", stdout=out)
    assert "/api/v1/executions/{id}/logs/" in json.loads(out.getvalue())["paths"]


def test_a_control_plane_sets_aside_what_it_does_not_know(execution: Execution, connection: Redis) -> None:
    """So an old one does with lines of logs: they are in nobody's way, and fill the list of dead letters."""
    keys.send(connection, "alice", lines="{}")
    hear(connection)
    assert reasons() == ["it is none of what a party of this version sends"]
