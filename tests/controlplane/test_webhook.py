"""The webhooks of users: signed, in time, and never to what only this host can reach."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User

from controlplane.environment import environment
from controlplane.models import Account, Channel, Notice, Site
from controlplane.people import webhook
from tests.composed import admin_client, make_user

pytestmark = pytest.mark.django_db
SETTINGS = "/admin/notifications/settings/"


@pytest.fixture
def ann(db: None) -> User:
    return make_user("ann")


@pytest.mark.parametrize(
    "address",
    [
        "http://hooks.example/", "ftp://hooks.example/", "https://", "hooks.example", "https://user:pw@hooks.example/",
        "https://127.0.0.1/", "https://10.1.2.3/", "https://169.254.169.254/latest", "https://[::1]/",
        "https://[::ffff:127.0.0.1]/", "https://[fe80::1]/", "https://[fd00::1]/", "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/", "https://0.0.0.0/", "https://224.0.0.1/", "https://x:99999/", "https://x:0/",
        "https://a b/", "https://[", "https://ex\u00e4mple/", "https://hooks.example/\x01", "x" * 501,
    ],
)  # fmt: skip
def test_addresses_that_are_not_for_webhooks_are_refused_with_a_reason(ann: User, address: str) -> None:
    page = admin_client(ann).post(SETTINGS, {"webhook_url": address})
    assert page.status_code == 200
    assert list(page.context["form"].errors) == ["webhook_url"]


def test_a_channel_needs_its_address(ann: User) -> None:
    page = admin_client(ann).post(SETTINGS, {f"{Notice.FAILED}-{Channel.WEBHOOK}": "on"})
    assert list(page.context["form"].errors) == ["webhook_url"]
    client = admin_client(ann)
    assert client.post(SETTINGS, {f"{Notice.FAILED}-{Channel.EMAIL}": "on"}).status_code == 302
    assert Account.objects.get(user=ann).subscriptions == {}, "there is no mail server"


@pytest.mark.parametrize("found", ["127.0.0.1", "10.0.0.7", "::1", "169.254.169.254"])
def test_a_name_of_a_private_address_is_not_reached(db: None, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(0, 0, 0, "", (address, 443)) for address in ("93.184.215.14", found)]
    monkeypatch.setattr(webhook.socket, "getaddrinfo", lambda *_, **__: both)
    monkeypatch.setattr(webhook.socket, "create_connection", lambda *_, **__: pytest.fail("it connected"))
    with pytest.raises(webhook.NotSent, match="private address"):
        webhook.post("https://hooks.example/x", "key", b"{}")


def test_a_signature_is_over_time_and_body() -> None:
    expected = hmac.new(b"key", b"17.{}", hashlib.sha256).hexdigest()
    assert webhook.signature_of("key", "17", b"{}") == f"sha256={expected}"


class Receiver(BaseHTTPRequestHandler):
    """A server on this host: takes what is posted, leads elsewhere, or takes its time."""

    seen: ClassVar[list[tuple[str, Any, bytes]]] = []

    def do_POST(self) -> None:
        Receiver.seen.append((self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
        if self.path == "/slow":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            with suppress(OSError):
                for _ in range(40):
                    time.sleep(0.1)
                    self.wfile.write(b"X: ")
            return
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a receiver, to which webhooks may lead."""
    Site.objects.create(environment="dev", security="trial")
    monkeypatch.setattr(environment, "webhooks_to_private", True)
    Receiver.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_gets_what_it_can_check(receiver: str) -> None:
    webhook.post(f"{receiver}/x?y=1", "key", b'{"a": 1}')
    ((path, head, body),) = Receiver.seen
    assert (path, body, head["Content-Type"]) == ("/x?y=1", b'{"a": 1}', "application/json")
    assert head[webhook.SIGNATURE] == webhook.signature_of("key", head[webhook.TIMESTAMP], body)


def test_no_redirect_is_followed(receiver: str) -> None:
    with pytest.raises(webhook.NotSent, match="status 302"):
        webhook.post(f"{receiver}/away", "key", b"{}")
    assert [path for path, _, _ in Receiver.seen] == ["/away"]


def test_a_server_that_takes_its_time_is_left(receiver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 0.5)
    began = time.monotonic()
    with suppress(webhook.NotSent):  # or it counts by the status, which came at once
        webhook.post(f"{receiver}/slow", "key", b"{}")
    assert time.monotonic() - began < 2, "each byte began its time anew"


def test_this_host_is_not_reached_unless_the_settings_say_so(receiver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "webhooks_to_private", False)
    for address in (receiver, receiver.replace("127.0.0.1", "localhost")):
        with pytest.raises(webhook.NotSent, match="private address"):
            webhook.post(address, "key", b"{}")
    assert Receiver.seen == []
