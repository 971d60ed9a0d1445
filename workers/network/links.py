"""SecretFlow's links between parties, as this process makes them: quicker than by default, and over TLS if asked.

SecretFlow 1.14 offers options for neither where they are needed (docs/secretflow.md), so the three places in
which links are made are wrapped: the class of brpc's link descriptions, the function that makes a brpc link
from one (the cross-silo link and the SPU's), and the cross-silo proxy over gRPC.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.contract.endpoints import split
from workers.network import wire
from workers.network.listening import listen
from workers.network.tls import KeyMaterial, name_for_grpc
from workers.network.tls_door import TLSDoor

log = logging.getLogger(__name__)

RETRY_INTERVAL_MS = 20
#: With the interval above this is about as long as the link's own ten retries of one second.
MAX_RETRIES = 500
#: How long a link may take to connect, in seconds; the peers have met before, and it takes a tenth of a second.
CONNECT_SECONDS = 15.0
#: Exit status of a process whose link did not connect. See ``_in_time``.
LINK_LOST = 71
#: Longest chain of certificates between a party's own and the CA's. Zero would turn verification off.
VERIFY_DEPTH = 4


#: Options for fast reconnects while the peers come up; gRPC's own defaults wait for seconds.
GRPC_OPTIONS: dict[str, Any] = {
    "grpc_retry_policy": {
        "maxAttempts": 5,
        "initialBackoff": "0.05s",
        "maxBackoff": "0.2s",
        "backoffMultiplier": 1.5,
        "retryableStatusCodes": ["UNAVAILABLE"],
    },
    "grpc_channel_options": [
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 100),
    ],
}


@dataclass(frozen=True, slots=True)
class _Secured:
    tls: KeyMaterial
    #: By peer: the certificate (DER) that its links show.
    certificates: Mapping[str, bytes]
    #: By address: sockets that listen there already. A link that is made there takes it.
    listening: dict[str, socket.socket | None]


_secured: _Secured | None = None
#: When links are made that wait for the other side to listen, by the monotonic clock: see workers.network.start_line.
_start: float | None = None
_wrapped = False
#: Makes a link by its description and this party's rank, once links are prepared.
_make_link: Callable[..., Any]
#: Where the links that were made over TLS take calls.
_doors: list[TLSDoor] = []
#: Links that were begun, by this party's rank and the addresses of all, until SecretFlow asks for them.
_begun: dict[tuple[Any, ...], Future[Any]] = {}


def prepare_links() -> None:
    """Make all links that this process describes from now on connect quickly, and take nothing but data from peers."""
    global _wrapped
    if not _wrapped:
        _wrap_brpc()
        _wrap_grpc()
        wire.narrow()
        _wrapped = True


def warm_up(directory: Path) -> None:
    """Have brpc begin what it begins once a process, by a link of nobody else in this private directory: the links of
    a run then listen and connect within a millisecond of each other."""
    import spu.libspu.link as link

    before = Path.cwd()
    os.chdir(directory)  # a Unix socket's path has to be short
    try:
        alone = link.Desc()
        alone.add_party("warm", "unix:warm.sock")
        link.create_brpc(alone, 0)
    except Exception:  # then the first link takes longer, as it did without this
        log.debug("brpc could not be warmed up", exc_info=True)
    finally:
        Path("warm.sock").unlink(missing_ok=True)
        os.chdir(before)


def secure_links(
    tls: KeyMaterial | None, certificates: Mapping[str, bytes], listening: Mapping[str, socket.socket]
) -> None:
    """Make all links of this process from now on speak only mutual TLS, or none of them without ``tls``.

    ``tls`` and ``certificates``: those of the run, from :func:`workers.network.rendezvous.meet`. ``listening``: sockets
    that listen already, by this party's address; links over TLS use them. Unix sockets of the links are made in the
    current directory, which must be private.
    """
    global _secured
    _secured = _Secured(tls, certificates, dict(listening)) if tls else None


def start_links_at(start: float | None) -> None:
    """Make the links in cleartext at this moment, by the monotonic clock, those that are asked for later at once."""
    global _start
    _start = start


def begin_link(described: Any, rank: int) -> None:
    """Begin to make a link for which SecretFlow will ask with this description, in a thread.

    In cleartext a link may wait for a tenth of a second, though all start at the same moment: where one of two peers
    connects before the other one listens, its brpc leaves it alone for so long. Links beside one another wait once.
    """
    thread = ThreadPoolExecutor(1, "link")
    _begun[_key(described, rank)] = thread.submit(_make_link, described, rank)
    thread.shutdown(wait=False)


def take_no_more_calls() -> None:
    """Give the ports of all links over TLS back, to another process too. Connections that are open stay."""
    while _doors:
        _doors.pop().close()


def _key(described: Any, rank: int) -> tuple[Any, ...]:
    return rank, *(party.host for party in described.parties)


def _wrap_brpc() -> None:
    global _make_link
    import spu
    import spu.libspu.link as link

    make_desc, make_link = link.Desc, link.create_brpc

    def quick_desc(*args: Any, **kwargs: Any) -> Any:
        # One of two peers always connects before the other one listens, if only by a millisecond; the link's
        # retry interval of a second is then lost time, twice a run.
        desc = make_desc(*args, **kwargs)
        options = desc.retry_opts
        options.retry_interval_ms = RETRY_INTERVAL_MS
        options.retry_interval_incr_ms = 0
        options.max_retry_interval_ms = RETRY_INTERVAL_MS
        options.max_retry = MAX_RETRIES
        return desc

    def create_link(desc: Any, rank: int, **options: Any) -> Any:
        begun = _begun.pop(_key(desc, rank), None)
        return begun.result() if begun else new_link(desc, rank, **options)

    def new_link(desc: Any, rank: int, **options: Any) -> Any:
        if _start and (left := _start - time.monotonic()) > 0:
            time.sleep(left)
        with _in_time():
            return secured_link(desc, rank, **options) if _secured else make_link(desc, rank, **options)

    def secured_link(desc: Any, rank: int, **options: Any) -> Any:
        assert _secured
        address = desc.parties[rank].host
        path = f"link-{split(address)[1]}.sock"
        with suppress(FileNotFoundError):
            os.unlink(path)
        door = TLSDoor(_secured.listening.pop(address, None) or listen(address), path)
        try:
            made = make_link(_behind_door(quick_desc(), desc, rank, path, _secured.tls), rank, **options)
        except BaseException:
            door.close()
            raise
        weakref.finalize(made, door.close)
        _doors.append(door)
        return made

    _make_link = new_link
    for module in (link, spu.link):
        module.Desc, module.create_brpc = quick_desc, create_link


@contextmanager
def _in_time() -> Iterator[None]:
    """End this process if a link is not made within CONNECT_SECONDS; the worker then has another one try again.

    brpc loses a call now and then while links connect: all parties wait for ever, and no time-out of its own fires
    (docs/secretflow.md). A party whose peer has just given up for that reason gets an error, and ends too.
    """
    begun = time.monotonic()
    late = threading.Timer(CONNECT_SECONDS, _give_up)
    late.daemon = True
    late.start()
    try:
        yield
    except Exception:
        if time.monotonic() - begun > CONNECT_SECONDS - 2:
            _give_up()
        raise
    finally:
        late.cancel()


def _give_up() -> None:
    log.error("ending: a link to the other parties hangs as it connects; another process tries again")
    os._exit(LINK_LOST)


#: Options that SecretFlow may set on a link description.
_DESC_OPTIONS = (
    "id",
    "connect_retry_times",
    "connect_retry_interval_ms",
    "recv_timeout_ms",
    "http_max_payload_size",
    "http_timeout_ms",
    "throttle_window_size",
    "brpc_channel_protocol",
    "brpc_channel_connection_type",
    "link_type",
    "disable_msg_seq_id",
)


def _behind_door(new: Any, desc: Any, rank: int, path: str, tls: KeyMaterial) -> Any:
    """Return ``new``, set up like ``desc`` but with TLS, and with its own server at a Unix socket."""
    for index, party in enumerate(desc.parties):
        new.add_party(party.id, f"unix:{path}" if index == rank else party.host)
    for option in _DESC_OPTIONS:
        setattr(new, option, getattr(desc, option))
    for side in (new.server_ssl_opts, new.client_ssl_opts):
        side.cert.certificate_path = str(tls.certificate)
        side.cert.private_key_path = str(tls.private_key)
        side.verify.ca_file_path = str(tls.ca)
        side.verify.verify_depth = VERIFY_DEPTH
    new.enable_ssl = True
    return new


def _wrap_grpc() -> None:
    import grpc
    from secretflow.distributed.fed import api
    from secretflow.distributed.fed.proxy.grpc import fed_pb2_grpc

    class GrpcProxy(api.GrpcProxy):  # type: ignore[misc,unused-ignore]
        """SecretFlow's proxy over gRPC, which listens only on the given address and whose channels can use TLS."""

        def _start_server(self) -> None:
            server = grpc.server(ThreadPoolExecutor(max_workers=8), options=self._grpc_options)
            fed_pb2_grpc.add_SfFedProxyServicer_to_server(self, server)
            if _secured is None:
                server.add_insecure_port(self._listen_addr)
            else:
                ca, key, chain = _contents(_secured.tls)
                server.add_secure_port(
                    self._listen_addr,
                    grpc.ssl_server_credentials([(key, chain)], root_certificates=ca, require_client_auth=True),
                )
            server.start()
            self._server = server

        def _init_channel(self) -> None:
            for party, address in self._addresses.items():
                if _secured is None:
                    channel = grpc.insecure_channel(address, options=self._grpc_options)
                else:
                    shown = _secured.certificates.get(party)
                    name = name_for_grpc(shown, party) if shown else party
                    channel = grpc.secure_channel(
                        address,
                        grpc.ssl_channel_credentials(*_contents(_secured.tls)),
                        options=[*self._grpc_options, ("grpc.ssl_target_name_override", name)],
                    )
                self._stubs[party] = fed_pb2_grpc.SfFedProxyStub(channel)

    api.GrpcProxy = GrpcProxy


def _contents(tls: KeyMaterial) -> tuple[bytes, bytes, bytes]:
    """Return CA, private key and certificate, in gRPC's order for a channel."""
    return tls.ca.read_bytes(), tls.private_key.read_bytes(), tls.certificate.read_bytes()
