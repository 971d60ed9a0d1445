"""Webhooks of services: who may have them, what is posted, how it is signed, and that each event arrives in the end."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, ClassVar

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone
from redis import Redis
from rest_framework.test import APIClient

from controlplane.environment import environment
from controlplane.models import KeptAnswer, PartyGrant, Site
from controlplane.roles import VIEWER, make_roles
from executions.coordinator import notices
from executions.coordinator.posting import BOTH_KEYS_FOR, GIVEN_UP_AFTER, Postman
from executions.models import Execution, Happening, PostStatus, Webhook, WebhookDelivery
from executions.states import Status, transition
from tests.composed import api_as, api_client, documents, errors_of, make_parties, superuser, token_client
from tests.walked import Circle, in_role

pytestmark = pytest.mark.django_db(transaction=True)
API = "/api/v1/webhooks/"


class Receiver(BaseHTTPRequestHandler):
    """A service: takes events, refuses them, or takes its time."""

    lock: ClassVar[Lock] = Lock()
    seen: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []
    #: Statuses to answer with, by path; the last one again and again.
    answers: ClassVar[dict[str, list[int]]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with Receiver.lock:
            Receiver.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            left = Receiver.answers.get(self.path, [200])
            status = left.pop(0) if len(left) > 1 else left[0]
        if self.path == "/silent":
            time.sleep(0.5)
        with suppress(OSError):
            self.send_response(status)
            self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(environment, "webhooks_to_private", True)
    Receiver.seen, Receiver.answers = [], {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def postman(connection: Redis) -> Iterator[Postman]:
    made = Postman()
    yield made
    made.finish(10)


@pytest.fixture
def api(transactional_db: None) -> APIClient:
    make_roles()
    make_parties()
    Site.objects.create(environment="dev", security="trial")
    return api_client(superuser())


def add(api: APIClient, url: str, **fields: Any) -> Any:
    response = api.post(API, {"name": "mine", "url": url, **fields}, format="json")
    assert response.status_code == 201, response.content
    return response.json()


def submit(**kwargs: Any) -> Execution:
    return Execution.objects.submit(documents(), **kwargs)


def post_all(postman: Postman) -> None:
    """Prepare and post what is due, until nothing is."""
    while notices.step():
        pass
    until = time.monotonic() + 30
    while postman.step():
        assert time.monotonic() < until
        time.sleep(0.01)


def due() -> None:
    """As if the pause until the next try were over."""
    WebhookDelivery.objects.filter(status=PostStatus.PENDING).update(due_at=timezone.now())


def events() -> list[Any]:
    return [json.loads(body) for _, _, body in Receiver.seen]


# What is posted


def test_changes_of_executions_are_posted_as_events(api: APIClient, receiver: str, postman: Postman) -> None:
    hook = add(api, f"{receiver}/hook?a=b")
    execution = submit(name="nightly", labels={"team": "risk"})
    transition(execution, Status.FAILURE, why="x", error="no memory", error_type="ResourceError", error_party="bob")
    post_all(postman)
    assert [event["type"] for event in events()] == ["execution.queued", "execution.failure"]
    path, headers, body = Receiver.seen[-1]
    event = json.loads(body)
    assert path == "/hook?a=b"
    assert (event["specversion"], event["subject"]) == ("1.0", str(execution.pk))
    assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert event["id"] == headers["webhook-id"]
    assert event["data"] == {
        "execution": str(execution.pk), "url": f"/api/v1/executions/{execution.pk}/", "status": "FAILURE",
        "name": "nightly", "task_type": "psi", "parties": ["alice", "bob"], "labels": {"team": "risk"}, "attempt": 0,
        "request_id": "",
        "error": {"type": "ResourceError", "party": "bob", "stage": "", "message": "no memory"},
    }  # fmt: skip
    log = api.get(hook["deliveries_url"]).json()["results"]
    assert [(entry["event_type"], entry["status"], entry["number_of_tries"]) for entry in log] == [
        ("execution.failure", "SENT", 1),
        ("execution.queued", "SENT", 1),
    ]
    assert log[0]["event"] == event
    assert log[0]["tries"][0]["status"] == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"events": ["execution.success", "execution.cancelled"]},
        {"labels": {"team": "risk"}},
        {"labels": {"team": "risk", "env": "prod"}, "party": "alice"},
    ],
)
def test_it_is_posted_what_was_asked_for(api: APIClient, receiver: str, postman: Postman, fields: Any) -> None:
    add(api, receiver, **fields)
    for labels in ({}, {"team": "fraud", "env": "prod"}):
        submit(labels=labels)
    wanted = submit(labels={"team": "risk", "env": "prod"})
    wanted.cancel()
    post_all(postman)
    assert {event["subject"] for event in events()} == {str(wanted.pk)}
    assert events()[-1]["data"]["status"] == "CANCELLED"


def test_what_no_webhook_wants_leaves_no_row(api: APIClient) -> None:
    add(api, "https://hooks.example/", events=["execution.success"])
    submit()
    assert not Happening.objects.exists()


# Who is told


def test_a_webhook_is_told_what_its_owner_may_see(receiver: str, postman: Postman, transactional_db: None) -> None:
    make_roles()
    Site.objects.create(environment="dev", security="trial")
    mine, others = Circle.make("alice", "bob", 20000), Circle.make("carol", "dave", 22000)
    user = in_role("viewer", VIEWER, mine.names)
    add(api_client(user), receiver)
    for circle in (mine, others):
        Execution.objects.submit(circle.rows["task"].documents())
    post_all(postman)
    assert {tuple(event["data"]["parties"]) for event in events()} == {tuple(mine.names)}
    Receiver.seen.clear()
    PartyGrant.objects.filter(user=user).delete()
    Execution.objects.submit(mine.rows["task"].documents())
    post_all(postman)
    User.objects.filter(pk=user.pk).update(is_active=False)
    Execution.objects.submit(mine.rows["task"].documents())
    post_all(postman)
    assert Receiver.seen == []


def test_a_webhook_of_a_token_of_one_party_is_told_no_more(api: APIClient, receiver: str, postman: Postman) -> None:
    root = User.objects.get(username="root")
    add(token_client(root, parties={"carol"}), receiver)
    submit()
    post_all(postman)
    assert Receiver.seen == []
    Webhook.objects.update(limited_to=["bob"])
    submit()
    post_all(postman)
    assert len(Receiver.seen) == 1


def test_who_may_have_webhooks(api: APIClient) -> None:
    root = User.objects.get(username="root")
    hook = add(api, "https://hooks.example/")
    reader = token_client(root, scopes=["read", "submit"])
    assert reader.get(API).json()["results"][0]["name"] == "mine"
    assert reader.post(API, {}, format="json").status_code == 403
    assert reader.post(f"{API}{hook['id']}/test/").status_code == 403
    assert api_as("nobody").get(API).status_code == 403
    other = api_as("ann", "view_execution")
    assert other.get(API).json()["results"] == []
    for path in ("", "deliveries/"):
        assert other.get(f"{API}{hook['id']}/{path}").status_code == 404
    assert other.delete(f"{API}{hook['id']}/").status_code == 404


# Signatures


def is_signed(key: str, headers: dict[str, str], body: bytes) -> bool:
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for signature in headers["webhook-signature"].split():
        kind, _, text = signature.partition(",")
        raw = base64.b64decode(text)
        if kind == "v1" and key.startswith("whsec_"):
            if hmac.compare_digest(raw, hmac.new(base64.b64decode(key[6:]), signed, hashlib.sha256).digest()):
                return True
        elif kind == "v1a" and key.startswith("whpk_"):
            with suppress(InvalidSignature):
                Ed25519PublicKey.from_public_bytes(base64.b64decode(key[5:])).verify(raw, signed)
                return True
    return False


@pytest.mark.parametrize("signature", ["hmac", "ed25519"])
def test_each_event_is_signed_and_both_keys_sign_for_a_day(
    api: APIClient, receiver: str, postman: Postman, signature: str
) -> None:
    hook = add(api, receiver, signature=signature)
    first = hook["secret"]
    assert hook["public_key"] == (first if signature == "ed25519" else "")
    read = api.get(f"{API}{hook['id']}/").json()
    assert "secret" not in read
    assert first.partition("_")[2] not in json.dumps(list(Webhook.objects.values("secret", "former_secret")))
    submit()
    post_all(postman)
    _, headers, body = Receiver.seen[-1]
    assert is_signed(first, headers, body)
    assert not is_signed(first, {**headers, "webhook-timestamp": "1"}, body)
    assert not is_signed(first, headers, body + b" ")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    second = api.post(f"{API}{hook['id']}/rotate-secret/").json()
    assert (second["version"], second["secret"] != first) == (2, True)
    submit()
    post_all(postman)
    _, headers, body = Receiver.seen[-1]
    assert is_signed(first, headers, body)
    assert is_signed(second["secret"], headers, body)
    Webhook.objects.update(former_until=timezone.now() - BOTH_KEYS_FOR)
    submit()
    post_all(postman)
    _, headers, body = Receiver.seen[-1]
    assert not is_signed(first, headers, body)
    assert is_signed(second["secret"], headers, body)


def test_a_new_key_is_not_kept_in_the_clear_with_its_idempotency_key(api: APIClient) -> None:
    body = {"name": "x", "url": "https://hooks.example/"}
    first = api.post(API, body, format="json", HTTP_IDEMPOTENCY_KEY="k").json()
    assert first["secret"] not in KeptAnswer.objects.get().body
    assert api.post(API, body, format="json", HTTP_IDEMPOTENCY_KEY="k").json() == first
    assert Webhook.objects.count() == 1


# Until it arrives


def test_events_of_an_execution_come_in_order_however_often_one_fails(
    api: APIClient, receiver: str, postman: Postman
) -> None:
    Receiver.answers["/"] = [500, 503, 200]
    add(api, f"{receiver}/")
    execution = submit()
    execution.cancel()
    for _ in range(4):
        due()
        post_all(postman)
    assert [event["type"] for event in events()] == ["execution.queued"] * 3 + ["execution.cancelled"]
    ids = [headers["webhook-id"] for _, headers, _ in Receiver.seen]
    assert len({*ids[:3]}) == 1
    delivery = WebhookDelivery.objects.earliest("pk")
    assert [entry["status"] for entry in delivery.tries] == [500, 503, 200]


def test_pauses_grow_and_after_a_day_it_is_given_up(api: APIClient, receiver: str, postman: Postman) -> None:
    Receiver.answers["/"] = [500]
    add(api, f"{receiver}/", events=["execution.queued"])
    submit()
    pauses = []
    for _ in range(12):
        due()
        post_all(postman)
        delivery = WebhookDelivery.objects.get()
        pauses.append((delivery.due_at - timezone.now()).total_seconds())
    assert pauses == sorted(pauses)
    assert 3 < pauses[0] <= 5
    assert 7000 < pauses[-1] <= 7200
    WebhookDelivery.objects.update(since=timezone.now() - GIVEN_UP_AFTER - timedelta(seconds=1))
    due()
    post_all(postman)
    delivery.refresh_from_db()
    assert (delivery.status, delivery.number_of_tries) == (PostStatus.GIVEN_UP, 13)


def test_a_server_that_says_it_is_gone_is_asked_no_more(api: APIClient, receiver: str, postman: Postman) -> None:
    Receiver.answers["/"] = [410]
    hook = add(api, f"{receiver}/")
    submit()
    post_all(postman)
    submit()
    post_all(postman)
    assert len(Receiver.seen) == 1
    read = api.get(f"{API}{hook['id']}/").json()
    assert (read["enabled"], read["disabled_because"]) == (False, "the server answered with status 410: it is gone")
    assert api.post(f"{API}{hook['id']}/test/").status_code == 409
    again = api.patch(f"{API}{hook['id']}/", {"enabled": True}, format="json").json()
    assert (again["enabled"], again["disabled_because"], again["version"]) == (True, "", 3)


def test_one_that_does_not_answer_holds_up_no_other(api: APIClient, receiver: str, postman: Postman) -> None:
    add(api, f"{receiver}/silent", name="silent", events=["execution.queued"])
    add(api, f"{receiver}/quick", name="quick", events=["execution.queued"])
    for _ in range(30):
        submit()
    while notices.step():
        pass
    began = time.monotonic()
    while sum(path == "/quick" for path, _, _ in Receiver.seen) < 30:
        postman.step()
        assert time.monotonic() - began < 20
        time.sleep(0.005)
    assert sum(path == "/silent" for path, _, _ in Receiver.seen) < 30


def test_two_coordinators_post_each_event_once(api: APIClient, receiver: str, postman: Postman) -> None:
    add(api, receiver, events=["execution.queued"])
    for _ in range(20):
        submit()
    while notices.step():
        pass
    other = Postman()

    def work() -> None:
        while other.step():
            time.sleep(0.01)
        connections.close_all()

    thread = Thread(target=work)
    thread.start()
    post_all(postman)
    thread.join(30)
    other.finish(10)
    assert len(Receiver.seen) == len({headers["webhook-id"] for _, headers, _ in Receiver.seen}) == 20


def test_it_is_not_posted_to_private_addresses(api: APIClient, postman: Postman) -> None:
    response = api.post(API, {"name": "x", "url": "https://127.0.0.1/"}, format="json")
    assert "private address" in errors_of(response)["url"]
    add(api, "https://hooks.example/", events=["execution.queued"])
    Webhook.objects.update(url="http://127.0.0.1:1/")
    submit()
    post_all(postman)
    assert "private address" in WebhookDelivery.objects.get().tries[0]["error"]


# The API


def test_a_webhook_is_tried_and_an_event_is_sent_again(api: APIClient, receiver: str, postman: Postman) -> None:
    hook = add(api, receiver)
    tried = api.post(f"{API}{hook['id']}/test/")
    assert tried.status_code == 202
    address = f"{API}{hook['id']}/deliveries/{tried.json()['id']}/redeliver/"
    assert api.post(address).status_code == 409, "it is still to be posted"
    post_all(postman)
    assert [(event["type"], event["data"]) for event in events()] == [("webhook.test", {"webhook": "mine"})]
    assert api.post(address).status_code == 202
    post_all(postman)
    assert [headers["webhook-id"] for _, headers, _ in Receiver.seen] == [tried.json()["message"]] * 2
    assert api.get(f"{hook['deliveries_url']}?status=SENT").json()["results"][0]["number_of_tries"] == 2
    assert api.get(f"{hook['deliveries_url']}?status=PENDING").json()["results"] == []
    assert api.post(f"{API}{hook['id']}/deliveries/99/redeliver/").status_code == 404


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({}, "url", "required"),
        ({"url": "ftp://x/"}, "url", "begins with https://"),
        ({"events": ["execution.done"]}, "events.0", "not a valid choice"),
        ({"labels": {"a": 1}}, "labels.a", "A value is a text"),
        ({"signature": "rsa"}, "signature", "not a valid choice"),
        ({"nam": "x"}, "nam", "did you mean 'name'?"),
        ({"name": "mine"}, "name", "you have a webhook of this name already"),
    ],
)
def test_it_says_what_is_wrong_with_a_webhook(api: APIClient, body: Any, path: str, words: str) -> None:
    add(api, "https://hooks.example/")
    response = api.post(API, body, format="json")
    assert response.status_code == 400
    assert words in errors_of(response)[path]


def test_a_webhook_is_changed_for_its_version(api: APIClient) -> None:
    hook = add(api, "https://hooks.example/")
    address = f"{API}{hook['id']}/"
    etag = api.get(address)["ETag"]
    changed = api.patch(address, {"party": "alice"}, format="json", HTTP_IF_MATCH=etag)
    assert (changed.status_code, changed.json()["version"], changed["ETag"][:3]) == (200, 2, '"2-')
    assert api.patch(address, {"party": "bob"}, format="json", HTTP_IF_MATCH=etag).status_code == 412
    kept = api.patch(address, {"signature": "ed25519"}, format="json")
    assert "cannot be changed" in errors_of(kept)["signature"]
    assert api.delete(address).status_code == 204


def test_there_are_not_too_many(api: APIClient) -> None:
    for number in range(20):
        add(api, "https://hooks.example/", name=str(number))
    assert api.post(API, {"name": "x", "url": "https://hooks.example/"}, format="json").status_code == 409
