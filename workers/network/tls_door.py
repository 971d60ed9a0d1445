"""A listener that lets only TLS through.

A brpc server with certificates still accepts connections in cleartext, and takes what comes over them for a peer's
messages, whoever sent them. brpc's option against that, ``force_ssl``, is passed on by no layer above brpc. So the
server of a TLS link listens on a Unix socket in the run's private directory, and a door stands at the port that the
peers know: it passes on to the server, byte for byte, what begins with a TLS handshake, and closes all other
connections. The server then asks for a certificate of the CA, as always.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter
from contextlib import suppress

log = logging.getLogger(__name__)

#: First bytes of a TLS record of type handshake, and, after two bytes of version and two of length, of the client's
#: hello. brpc looks at exactly these. A record of the other type says nothing, and is there for old boxes on the way.
HANDSHAKE, CLIENT_HELLO, CHANGE_CIPHER = 0x16, 0x01, 0x14
HEADER, RECORD_HEADER = 6, 5
#: How long a caller may take to send its hello, and the server to listen.
PATIENCE_SECONDS = 10.0
#: How long a caller may then take for its part of the handshake. Who is no peer gets no further than that.
HANDSHAKE_SECONDS = 10.0
#: How many connections may be open; a peer has one for each link, or a few with brpc's pooled and short connections.
MAX_CONNECTIONS = 256
#: And how many from one address: who fills them keeps out only its neighbours.
MAX_FROM_ONE = 64
CHUNK = 256 * 1024


class TLSDoor:
    """Takes the calls that come to a listener, until both are closed; ``server`` is the path of the Unix socket behind
    the door."""

    def __init__(self, listener: socket.socket, server: str) -> None:
        self._listener = listener
        self._server = server
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="TLS door", daemon=True).start()

    def close(self) -> None:
        """Stop listening. Connections that are open end with the server's own."""
        # close alone would leave the thread in accept, and with it the port
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, (address, *_) = self._listener.accept()
            except OSError:
                return
            if not self._takes(address):
                caller.close()
                continue
            threading.Thread(target=self._serve, args=(caller, address), name="TLS door", daemon=True).start()

    def _takes(self, address: str) -> bool:
        with self._lock:
            if self._open.total() >= MAX_CONNECTIONS or self._open[address] >= MAX_FROM_ONE:
                return False
            self._open[address] += 1
            return True

    def _serve(self, caller: socket.socket, address: str) -> None:
        try:
            with caller, suppress(OSError):
                if not _begins_with_tls(caller):
                    log.warning("hung up on a caller that does not speak TLS")
                    return
                with _connect(self._server) as server:
                    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    back = threading.Thread(target=_pass_on, args=(server, caller), name="TLS door", daemon=True)
                    back.start()
                    if _pass_on_handshake(caller, server):
                        _pass_on(caller, server)
                    else:
                        log.warning("hung up on a caller that did not finish its handshake")
                        server.shutdown(socket.SHUT_RDWR)
                    back.join()
        finally:
            with self._lock:
                self._open[address] -= 1
                if not self._open[address]:
                    del self._open[address]


def _begins_with_tls(caller: socket.socket) -> bool:
    caller.settimeout(PATIENCE_SECONDS)
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        header = caller.recv(HEADER, socket.MSG_PEEK)
        if not header or header[0] != HANDSHAKE or time.monotonic() > end:
            return False
        if len(header) == HEADER:
            caller.settimeout(None)
            return header[5] == CLIENT_HELLO
        time.sleep(0.01)


def _connect(path: str) -> socket.socket:
    """Connect to the server, which may begin to listen a moment later than its door."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(path)
        except OSError:
            server.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.005)
        else:
            return server


def _pass_on_handshake(caller: socket.socket, server: socket.socket) -> bool:
    """Pass on a caller's hello and what it says next, until that is complete: the server then knows who it is, or has
    hung up. Returns whether it came in time."""
    end = time.monotonic() + HANDSHAKE_SECONDS
    unfinished, records = b"", 0
    try:
        while records < len(("hello", "certificate")):
            caller.settimeout(max(0.001, end - time.monotonic()))
            if not (chunk := caller.recv(CHUNK)):
                return True  # it hung up itself
            server.sendall(chunk)
            unfinished += chunk
            while len(unfinished) >= RECORD_HEADER:
                size = RECORD_HEADER + int.from_bytes(unfinished[3:RECORD_HEADER], "big")
                if len(unfinished) < size:
                    break
                records += unfinished[0] != CHANGE_CIPHER
                unfinished = unfinished[size:]
            if time.monotonic() > end:
                return False
    except TimeoutError:
        return False
    caller.settimeout(None)
    return True


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    buffer = memoryview(bytearray(CHUNK))
    with suppress(OSError):
        while count := source.recv_into(buffer):
            target.sendall(buffer[:count])
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
