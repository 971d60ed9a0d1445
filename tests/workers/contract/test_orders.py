"""What a party takes for an order of the control plane: what is signed, as it is, for it, of this time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from tests.keys import voice
from workers.contract import orders
from workers.contract.jobs import ORDER, TASK_FUNCTION, OrderedJob, PartyJob, ordered_job
from workers.contract.key_file import read_key, write_key
from workers.contract.orders import JOB, LASTS, PORTS_WANTED, PREFLIGHT, OrderRefused, opened_order, signed_order
from workers.contract.signing import SignatureRefused, Signer, Verifier

CONTROL, OTHER = voice("the control plane"), voice("somebody else")
KNOWN = Verifier([CONTROL.public_key])
JOB_ID = "alice-0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e-1"


def opened(raw: str, kind: str = PREFLIGHT, party: str = "alice", verifier: Verifier = KNOWN) -> Any:
    return opened_order(verifier, kind, party, raw.encode()).content


def test_an_order_is_read_as_it_was_signed() -> None:
    raw = signed_order(CONTROL, PREFLIGHT, "alice", "x", {"documents": {"a": "ä"}})
    assert opened(raw) == {"documents": {"a": "ä"}}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "has no order"),
        ("{}", "signed with a key that cannot be read"),
        ("x" * 40, "signed with a key that cannot be read"),
        (signed_order(OTHER, PREFLIGHT, "alice", "x", {}), f"signed with a key {OTHER.key_id}"),
        (signed_order(CONTROL, PREFLIGHT, "alice", "x", {})[:-2] + " }", "does not fit"),
        (signed_order(CONTROL, PREFLIGHT, "alice", "x", {}).replace(":", ":AAAA", 1), "does not fit"),
        (
            signed_order(CONTROL, PREFLIGHT, "alice", "x", {}).replace(CONTROL.key_id, OTHER.key_id),
            "the keys that count",
        ),
        (signed_order(CONTROL, JOB, "alice", "x", {}), "does not fit"),
        (signed_order(CONTROL, PREFLIGHT, "bob", "x", {}), "an order to bob, and this host is alice"),
    ],
)
def test_what_is_no_order_for_this_party_is_refused(raw: str, reason: str) -> None:
    with pytest.raises(OrderRefused, match=reason):
        opened(raw)


@pytest.mark.parametrize(
    ("ahead", "reason"), [(-LASTS - 60, "has expired"), (LASTS + 60, "from the future"), (3600, ""), (-3600, "")]
)
def test_an_order_holds_for_its_time(monkeypatch: pytest.MonkeyPatch, ahead: float, reason: str) -> None:
    now = time.time()
    monkeypatch.setattr(orders.time, "time", lambda: now + ahead)
    raw = signed_order(CONTROL, PORTS_WANTED, "alice", "x", {})
    monkeypatch.setattr(orders.time, "time", lambda: now)
    if not reason:
        assert opened(raw, PORTS_WANTED) == {}
        return
    with pytest.raises(OrderRefused, match=f"{reason}.*set the clocks"):
        opened(raw, PORTS_WANTED)


def test_both_keys_count_while_one_replaces_the_other() -> None:
    both = Verifier([CONTROL.public_key, OTHER.public_key])
    for signer in (CONTROL, OTHER):
        assert opened(signed_order(signer, PREFLIGHT, "alice", "x", {}), verifier=both) == {}
    assert both.key_ids == [CONTROL.key_id, OTHER.key_id]


# --- jobs, as they lie in Redis


@pytest.fixture
def key(connection: Redis) -> str:
    """Of a job in alice's queue, as the coordinator puts it there."""
    queue = Queue("alice", connection=connection, serializer=JSONSerializer, job_class=PartyJob)
    job = PartyJob.create(
        TASK_FUNCTION, kwargs={"task_request_id": "x", "n": 1}, id=JOB_ID, origin="alice", connection=connection,
        serializer=JSONSerializer, timeout=60, result_ttl=600, failure_ttl=3600, description="psi",
    )  # fmt: skip
    job.sign(CONTROL)
    with connection.pipeline() as pipeline:
        queue.enqueue_job(job, pipeline=pipeline)
        pipeline.execute()
    return str(job.key)


def fetched(connection: Redis, job_id: str = JOB_ID, party: str = "alice") -> OrderedJob:
    return ordered_job(party, KNOWN).fetch(job_id, connection=connection, serializer=JSONSerializer)


def test_a_job_is_read_as_it_was_signed(connection: Redis, key: str) -> None:
    job = fetched(connection)
    assert (job.func_name, job.kwargs, job.timeout) == (TASK_FUNCTION, {"task_request_id": "x", "n": 1}, 60)
    assert job.order.id == JOB_ID


def test_rq_may_note_how_a_job_goes_on(connection: Redis, key: str) -> None:
    job = fetched(connection)
    job.worker_name, job.started_at = "alice-1", job.created_at
    job.save(include_meta=False)
    connection.hset(key, mapping={"status": "finished", "last_heartbeat": b"2026-01-01T00:00:00.000000Z"})
    assert fetched(connection).worker_name == "alice-1"


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"data": b'["os.system", null, ["id"], {}]'}, "not as it was signed"),
    ({"timeout": 10**6}, "not as it was signed"),
    ({"origin": "bob"}, "not as it was signed"),
    ({"result_ttl": -1}, "not as it was signed"),
    ({"failure_ttl": 1}, "not as it was signed"),
    ({"description": "x"}, "not as it was signed"),
    ({"created_at": "2026-01-01T00:00:00.000000Z"}, "not as it was signed"),
    ({"success_callback_name": "os.system"}, "success_callback_name"),
    ({"failure_callback_name": "os.system"}, "failure_callback_name"),
    ({"stopped_callback_name": "os.system"}, "stopped_callback_name"),
    ({"dependency_id": "other"}, "dependency_id"),
    ({"dependency_ids": '["other"]'}, "dependency_ids"),
    ({"retries_left": 3}, "retries_left"),
    ({"repeats_left": 3}, "repeats_left"),
    ({"webhooks": '[{"url": "http://x"}]'}, "webhooks"),
    ({"meta": '{"a": 1}'}, "meta"),
    ({"group_id": "g"}, "group_id"),
    ({"rate_limit_key": "g"}, "rate_limit_key"),
    ({"whatever": "1"}, "whatever"),
    ({ORDER: ""}, "no order"),
    ({"started_at": "yesterday"}, "notes in it cannot be read"),
    ({"status": "dancing"}, "notes in it cannot be read"),
]


@pytest.mark.parametrize(("fields", "reason"), HOSTILE, ids=[next(iter(fields)) for fields, _ in HOSTILE])
def test_a_job_that_was_altered_is_refused(connection: Redis, key: str, fields: dict[str, Any], reason: str) -> None:
    connection.hset(key, mapping=fields)
    with pytest.raises(OrderRefused, match=reason):
        fetched(connection)


def test_a_job_goes_to_no_other_party_and_under_no_other_name(connection: Redis, key: str) -> None:
    with pytest.raises(OrderRefused, match="an order to alice, and this host is bob"):
        fetched(connection, party="bob")
    connection.rename(key, "rq:job:alice-other-1")
    with pytest.raises(OrderRefused, match="that of another job"):
        fetched(connection, "alice-other-1")


def test_the_order_of_another_job_makes_no_job(connection: Redis, key: str) -> None:
    mine = dict(connection.hgetall(key))
    connection.hset("rq:job:alice-other-1", mapping=mine | {b"data": b"[]"})
    with pytest.raises(OrderRefused, match="that of another job"):
        fetched(connection, "alice-other-1")


def test_it_is_refused_before_its_call_is_unpacked(
    connection: Redis, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is packed in a job may be a million times as large unpacked."""
    connection.hset(key, "data", b"x")
    monkeypatch.setattr("rq.job.zlib.decompress", lambda raw: pytest.fail("it was unpacked"))
    with pytest.raises(OrderRefused, match="not as it was signed"):
        fetched(connection)


# --- keys


def test_a_key_is_kept_in_a_file_that_its_owner_alone_reads(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = Signer.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.load(path).public_key == made.public_key
    with pytest.raises(FileExistsError):
        Signer.create(path)
    assert Signer.load(path).public_key == made.public_key
    assert [found.name for found in tmp_path.iterdir()] == ["key"]
    path.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        Signer.load(path)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    write_key(tmp_path / "short", b"x")
    assert read_key(tmp_path / "short") == b"x"
    with pytest.raises(ValueError, match="32"):
        Signer.load(tmp_path / "short")
    for text in ("", "ed25519:", "ed25519:AAAA", "x25519:" + "A" * 44, "ed25519:" + "?" * 44):
        with pytest.raises(ValueError, match=r"begins with|32|base64|padding"):
            Verifier([text])


def test_a_signature_holds_for_its_purpose_alone() -> None:
    signature = CONTROL.sign("event of alice", b"x")
    KNOWN.check("event of alice", b"x", signature)
    for purpose, message in (("event of bob", b"x"), ("event of alic", b"ex"), ("event of alice", b"y")):
        with pytest.raises(SignatureRefused, match="does not fit"):
            KNOWN.check(purpose, message, signature)
    with pytest.raises(SignatureRefused, match="not signed"):
        KNOWN.check("event of alice", b"x", None)


@pytest.mark.parametrize(
    "body",
    [
        "[]", "7", "{}", '"x"', "[" * 100_000, '{"kind": "preflight"}',
        '{"kind": "preflight", "party": "alice", "id": "x", "issued": NaN, "content": {}}',
        '{"kind": "preflight", "party": "alice", "id": "x", "issued": "now", "content": {}}',
        '{"kind": "preflight", "party": "alice", "id": 7, "issued": 7, "content": {}}',
        '{"kind": "preflight", "party": "alice", "id": "x", "issued": 7, "content": []}',
        '{"kind": "preflight", "party": ["alice"], "id": "x", "issued": 7, "content": {}}',
    ],
)  # fmt: skip
def test_a_signed_order_of_another_form_is_refused_in_words(body: str) -> None:
    """By a control plane that means ill, or is of another version."""
    with pytest.raises(OrderRefused, match="not of the form"):
        opened(f"{CONTROL.sign(PREFLIGHT, body.encode())} {body}")
