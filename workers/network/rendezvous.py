"""The rendezvous: the parties of a run meet before SecretFlow starts.

SecretFlow's links wait in steps of one and three seconds for a peer that listens a moment later
(docs/secretflow.md). So each party first listens on its own leased port and calls every other one,
many times a second, until all have greeted each other both ways; then all start within milliseconds.
The greeting carries a digest of the documents: parties that received different ones notice it here, and not by a link
that times out.

A call is a greeting, the answer to it, and thanks for the answer. Nobody leaves before it was thanked by
every peer: a caller that gave up on a slow answer and calls again would find nobody there.

With TLS each side also sees that the other one's certificate names the party that it says it is; nothing of a
greeting counts before that. SecretFlow's own links check the chain alone, so this is where peers' identity is
established, and where they tell each other the certificates that the links of this run take.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from cryptography import x509

from workers.contract.endpoints import split
from workers.contract.errors import ConfigError, NetworkError
from workers.network.listening import listen_error
from workers.network.run_certificate import RunCertificate, check_run_certificate
from workers.network.start_line import StartLine
from workers.network.tls import KeyMaterial, names_of, words_of

RETRY_SECONDS = 0.02
#: Seconds to connect: longer than a resolver waits for a dead name server before it asks the next one.
CONNECT_SECONDS = 8
ANSWER_SECONDS = 2
#: How long parties that disagree stay, so that a third one learns of it as well.
DISPUTE_SECONDS = 1
#: How long a peer's address may answer with a bad certificate: another process may have used it before the peer.
REFUSAL_SECONDS = 3
GREETING_LIMIT = 4096
THANKS = b"thanks\n"

#: Errors that a stranger or a bad line may cause: the call is then made again.
_MISHAPS = (OSError, ValueError, RecursionError, asyncio.TimeoutError)


class Met(NamedTuple):
    """What a rendezvous tells of the peers, by name."""

    #: The certificate (DER) that each one made for this run; empty without TLS.
    certificates: dict[str, bytes]
    #: The offer of each one.
    offers: dict[str, str]
    #: This party's own for this run; None without TLS.
    own: RunCertificate | None
    #: The moment at which all parties make their links, by this host's monotonic clock; None if that does not matter.
    start: float | None = None
    #: Seconds from this party's greeting to the answer of each one.
    round_trips: Mapping[str, float] = MappingProxyType({})

    def links_tls(self, directory: Path) -> KeyMaterial | None:
        """Return what the links of this run show and accept, in files of a private directory; None without TLS."""
        return self.own.write(directory, self.certificates) if self.own else None


def meet(
    me: str,
    listen: str,
    peers: Mapping[str, str],
    *,
    job_name: str,
    digest: str,
    offer: str = "",
    tls: KeyMaterial | None = None,
    listener: socket.socket | None = None,
    line_up: bool = False,
    timeout: float = 30,
    given_up: Callable[[], bool] = lambda: False,
) -> Met:
    """Return when every peer has been met. ``listen`` and the values of ``peers`` are ``host:port``.

    ``offer`` is told to all of them, who may differ in it. ``given_up`` is asked ten times a second whether the meeting
    makes no sense any more; it then ends as if the time were over. With ``tls`` the peers are met over mutual TLS.
    ``listener``: a socket that listens at ``listen`` already, and stays open: who calls when the meeting is over waits
    there, and is not refused. ``line_up``: agree on a moment at which all start (:mod:`workers.network.start_line`).

    Raises ResourceError if the port is taken, NetworkError if a peer does not come within ``timeout``
    seconds, ConfigError if a peer was sent other documents or has no certificate that proves who it is.
    """
    said = {"job": job_name, "digest": digest, "offer": offer}
    meeting = _Meeting(me, listen, peers, said, tls, listener, StartLine(me, peers) if line_up else None)
    asyncio.run(meeting.hold(timeout, given_up))
    return Met(meeting.certificates, meeting.offers, meeting.own, meeting.start, meeting.round_trips)


def _refusal(error: ssl.SSLError) -> str | None:
    """Return what the user should know of a failed handshake; None if it may have failed for another reason than the
    certificates."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{words_of(error)}; compare the certificates and the CA that the two parties use"
    if error.reason == "WRONG_VERSION_NUMBER":
        return "it answers without TLS, or with a version older than 1.2"
    return None


class _Meeting:
    def __init__(
        self,
        me: str,
        listen: str,
        peers: Mapping[str, str],
        said: Mapping[str, str],
        tls: KeyMaterial | None,
        listener: socket.socket | None,
        line: StartLine | None,
    ) -> None:
        self.me, self.listen, self.peers, self.listener, self.line = me, listen, peers, listener, line
        self.server_tls = tls and tls.context(server=True)
        self.client_tls = tls and tls.context(server=False)
        self.own = RunCertificate(me) if tls else None
        self.certificates: dict[str, bytes] = {}
        self.offers: dict[str, str] = {}
        self.round_trips: dict[str, float] = {}
        #: By peer: what is wrong with the certificates between it and this party.
        self.refused: dict[str, str] = {}
        #: Job, digest (a peer must send the same ones) and offer.
        self.said = dict(said)
        #: What this party says to its peers.
        self.greeting = {"party": me, **said}
        if self.own:
            self.greeting["certificate"] = base64.b64encode(self.own.der).decode()
        self.called_by = {peer: asyncio.Event() for peer in peers}
        self.disagreeing: str | None = None
        self.met: set[str] = set()
        self.deadline = 0.0
        self.over = False
        self.start: float | None = None

    async def hold(self, timeout: float, given_up: Callable[[], bool]) -> None:
        host, port = split(self.listen)
        place: dict[str, Any] = {"sock": self.listener.dup()} if self.listener else {"host": host, "port": port}
        loop = asyncio.get_running_loop()
        self.deadline = loop.time() + timeout
        try:
            server = await asyncio.start_server(
                self._answer, **place, limit=GREETING_LIMIT, ssl=self.server_tls, **self._patience()
            )
        except (OSError, UnicodeError) as error:
            raise listen_error(self.listen, error) from None
        pending = {asyncio.ensure_future(self._meet(peer)) for peer in self.peers}
        try:
            while pending and (left := self.deadline - loop.time()) > 0 and not given_up():
                # In short steps, since a dispute brings the deadline forward
                done, pending = await asyncio.wait(pending, timeout=min(left, 0.1))
                for task in done:
                    task.result()
            if self.line and not pending and not self.disagreeing:
                self.start = await self.line.start()
        finally:
            self.over = True
            server.close()
            if self.line:
                self.line.close()
            if self.listener:
                self.listener.setblocking(True)  # what is not blocking is what the two share, not either of them
        if self.disagreeing:
            raise ConfigError(f"{self.disagreeing} was sent other documents than {self.me}")
        for peer, reason in self.refused.items():
            if peer not in self.met:
                raise ConfigError(f"the TLS handshake with {peer} failed: {reason}")
        if pending:
            missing = ", ".join(peer for peer in self.peers if peer not in self.met)
            raise NetworkError(f"{missing} did not come to the meeting within {timeout:g} s")

    async def _meet(self, peer: str) -> None:
        await asyncio.gather(self._call(peer), self.called_by[peer].wait())
        self.met.add(peer)

    async def _call(self, peer: str) -> None:
        host, port = split(self.peers[peer])
        # Not for ever: before Python 3.12 wait_for loses a cancellation that comes as its inner task ends
        while not self.over:
            try:
                reader, writer = await asyncio.wait_for(
                    asyncio.open_connection(host, port, limit=GREETING_LIMIT, ssl=self.client_tls, **self._patience()),
                    CONNECT_SECONDS,
                )
                try:
                    # Before the greeting, which only the peer may see
                    self._check_certificate(writer, peer)
                    self._greet(writer)
                    greeted = time.monotonic()
                    if self._hear(await asyncio.wait_for(reader.readline(), ANSWER_SECONDS), writer, peer):
                        self.round_trips[peer] = time.monotonic() - greeted
                        writer.write(THANKS)
                        if self.line and self.line.waits_for(peer):
                            self.line.add(peer, reader, writer)
                        return
                finally:
                    self._hang_up(writer)
            except ssl.SSLError as error:
                self._refuse(peer, error)
            except _MISHAPS:
                pass
            await asyncio.sleep(RETRY_SECONDS)

    def _patience(self) -> dict[str, Any]:
        return {"ssl_handshake_timeout": ANSWER_SECONDS} if self.server_tls else {}

    def _check_certificate(self, writer: asyncio.StreamWriter, peer: str) -> None:
        """Raise SSLCertVerificationError unless the other end's verified certificate names the peer."""
        if not self.client_tls:
            return
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if peer not in names_of(x509.load_der_x509_certificate(certificate)):
            raise ssl.SSLCertVerificationError(f"its certificate does not name {peer}")

    def _refuse(self, peer: str, error: ssl.SSLError) -> None:
        reason = _refusal(error)
        if reason is None:
            return
        if peer not in self.refused:
            self.deadline = min(self.deadline, asyncio.get_running_loop().time() + REFUSAL_SECONDS)
        self.refused[peer] = reason

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(*_MISHAPS):
                if peer := self._hear(await asyncio.wait_for(reader.readline(), ANSWER_SECONDS), writer):
                    self._greet(writer)
                    if await reader.readline() == THANKS:
                        if self.line and self.line.leads:
                            self.line.add(peer, reader, writer)
                        self.called_by[peer].set()
        finally:
            self._hang_up(writer)

    def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        if not (self.line and self.line.has(writer)):  # that one closes it when all have been told
            writer.close()

    def _greet(self, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(self.greeting).encode() + b"\n")

    def _hear(self, line: bytes, writer: asyncio.StreamWriter, only: str = "") -> str | None:
        """Take note of a greeting and return the peer that sent it, if it can be ``only`` that one; None for a stranger
        or a party of another run. Raises SSLCertVerificationError or ValueError, and notes nothing, if whoever is at
        the other end does not prove to be that peer."""
        greeting = json.loads(line)
        if not isinstance(greeting, dict):
            return None
        peer = greeting.get("party")
        if not isinstance(peer, str) or peer not in self.peers or greeting.get("job") != self.said["job"]:
            return None
        if only and peer != only:
            return None
        self._check_certificate(writer, peer)
        if self.own:
            certificate = base64.b64decode(str(greeting.get("certificate", "")), validate=True)
            check_run_certificate(certificate, peer)
            self.certificates[peer] = certificate
        self.offers[peer] = str(greeting.get("offer", ""))
        if greeting.get("digest") != self.said["digest"]:
            self.disagreeing = peer
            self.deadline = min(self.deadline, asyncio.get_running_loop().time() + DISPUTE_SECONDS)
        return peer
