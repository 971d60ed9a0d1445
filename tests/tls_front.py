"""A TLS front before a server that has no TLS itself, as stunnel or a cloud's load balancer is.

The Valkey and the PostgreSQL of the tests are built without TLS.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers.network.tls import KeyMaterial

#: With this, eight bytes with its length, a client of PostgreSQL asks whether it may begin with TLS.
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class Front:
    """Listens on the loopback interface, and passes what comes to a server's socket. Use as a context manager.

    ``files``: its certificate; None for cleartext. ``postgresql``: whether clients ask for TLS as they do there.
    ``mutual``: whether it asks for a client's certificate, of the same CA.
    """

    def __init__(
        self, server: Path, files: KeyMaterial | None, *, postgresql: bool = False, mutual: bool = False
    ) -> None:
        self._server, self._postgresql = str(server), postgresql
        self._context: ssl.SSLContext | None = None
        if files:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(files.certificate, files.private_key)
            if mutual:
                self._context.load_verify_locations(files.ca)
                self._context.verify_mode = ssl.CERT_REQUIRED
        #: Connections that came through, with whatever was said on them.
        self.passed = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Front:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server)
            if self._context:
                if self._postgresql:
                    if client.recv(len(_SSL_REQUEST), socket.MSG_WAITALL) != _SSL_REQUEST:
                        return  # cleartext
                    client.sendall(b"S")
                client = self._context.wrap_socket(client, server_side=True)
            self.passed += 1
            with client:
                _relay(client, server)


def _relay(client: socket.socket, server: socket.socket) -> None:
    other = {client: server, server: client}
    while True:
        pending = isinstance(client, ssl.SSLSocket) and client.pending()
        for source in [client] if pending else select.select(other, [], [])[0]:
            if not (data := source.recv(65536)):
                return
            other[source].sendall(data)
