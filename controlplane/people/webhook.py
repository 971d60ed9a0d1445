"""Posts to addresses that users enter, without letting them reach what only this host can reach."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv6Address, ip_address, ip_network
from threading import Timer
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.utils.translation import gettext

from controlplane.environment import environment
from controlplane.models import PRODUCTION, Site

#: Seconds that a whole request may take.
TIMEOUT = 5.0
#: Networks that lead on to addresses of IPv4, possibly private ones.
_TUNNELS = tuple(ip_network(text) for text in ("2001::/32", "2002::/16", "64:ff9b::/96", "64:ff9b:1::/48"))
SIGNATURE, TIMESTAMP = "X-Controlplane-Signature", "X-Controlplane-Timestamp"


class NotSent(Exception):
    """A request was not sent, or not taken. The message says why, in a line."""


def problem_of(address: str) -> str:
    """Return what is wrong with an address of a webhook, and what would be right; empty if nothing is."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return gettext("This is no address; enter one such as https://hooks.example/abc.")
    if parts.scheme not in ("https", "http") or not parts.hostname or not address.isascii() or " " in address:
        return gettext("Enter an address that begins with https://, such as https://hooks.example/abc.")
    if any(not char.isprintable() for char in address):
        return gettext("The address has characters that cannot be shown; enter it anew.")
    if parts.scheme == "http" and Site.current().security == PRODUCTION:
        return gettext("Enter an address that begins with https://: http:// is for the trial tier.")
    if parts.username is not None or parts.password is not None:
        return gettext("Leave user and password out of the address; requests are signed instead.")
    if port == 0:
        return gettext("There is no port 0.")
    try:
        literal = ip_address(parts.hostname)
    except ValueError:
        return ""
    return (
        ""
        if _may_reach(str(literal))
        else gettext("{literal} is a private address, to which webhooks may not lead.").format(literal=literal)
    )


def _may_reach(address: str) -> bool:
    """Return whether requests may go to an address: not to this host, nor to its own network."""
    found: Any = ip_address(address.partition("%")[0])
    if environment.webhooks_to_private:
        return not (found.is_multicast or found.is_unspecified)
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif any(found in network for network in _TUNNELS):
            return False
    return bool(found.is_global and not found.is_multicast and not found.is_reserved)


def post(address: str, secret: str, body: bytes) -> None:
    """Post JSON, signed. Raises NotSent, also if it is not taken."""
    now = str(int(time.time()))
    headers = {TIMESTAMP: now, SIGNATURE: signature_of(secret, now, body), "Content-Type": "application/json"}
    status = send(address, headers, body)
    if not 200 <= status < 300:
        raise NotSent(gettext("the server answered with status {status}").format(status=status))


def send(address: str, headers: Mapping[str, str], body: bytes) -> int:
    """Post something and return the status of the answer. Raises NotSent if there is none. Follows no redirect, asks no
    proxy, and goes to just the address that the host's name was found to have, which is looked at before."""
    if why := problem_of(address):
        raise NotSent(why)
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = HTTPConnection(str(parts.hostname), port, timeout=TIMEOUT)
    connection.default_port = 443 if parts.scheme == "https" else 80  # no port in the header if it is the usual one
    timer: Timer | None = None
    try:
        for found in _addresses(str(parts.hostname), port):
            raw = socket.create_connection((found, port), timeout=TIMEOUT)
            # A server that sends a byte a second would keep us for ever: a timeout is of each byte
            timer = Timer(TIMEOUT, _end, [raw])
            timer.daemon = True
            timer.start()
            connection.sock = _encrypted(raw, parts)
            break
        connection.request("POST", target, body, {"User-Agent": "secretflow-controlplane", **headers})
        return connection.getresponse().status
    except (OSError, HTTPException, ValueError) as error:
        raise NotSent(f"{type(error).__name__}: {error}"[:200]) from None
    finally:
        if timer is not None:
            timer.cancel()
        connection.close()


def signature_of(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature over time and body, as the header has it."""
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def _addresses(host: str, port: int) -> Iterator[str]:
    """Yield the addresses of a host. Raises NotSent if one of them is not for webhooks."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        if not _may_reach(address):
            raise NotSent(gettext("the host has a private address, to which webhooks may not lead"))
    yield from found


def _encrypted(raw: socket.socket, parts: SplitResult) -> socket.socket:
    if parts.scheme != "https":
        return raw
    return ssl.create_default_context().wrap_socket(raw, server_hostname=parts.hostname)


def _end(raw: socket.socket) -> None:
    try:
        raw.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended by itself
        return
