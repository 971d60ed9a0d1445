"""Where a party listens, and what it says when it cannot."""

from __future__ import annotations

import errno
import os
import socket

from workers.contract.endpoints import split
from workers.contract.errors import ConfigError, ResourceError


def listen(endpoint: str) -> socket.socket:
    """Return a socket that listens at ``host:port``. Raises ResourceError if the port is taken, or ConfigError."""
    return _listening(endpoint, v6_alone=True)  # as asyncio's servers


def check_free(endpoint: str) -> None:
    """Raise ResourceError if something already listens where this party is to listen, or ConfigError if it cannot."""
    _listening(endpoint, v6_alone=False).close()  # whoever listens at all IPv6 addresses may take the IPv4 ones, too


def _listening(endpoint: str, v6_alone: bool) -> socket.socket:
    host, port = split(endpoint)
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_alone)
        made.bind((host, port))
        made.listen(128)
    except (OSError, UnicodeError) as error:
        made.close()
        raise listen_error(endpoint, error) from None
    return made


def listen_error(endpoint: str, error: OSError | UnicodeError) -> Exception:
    """Return what to raise where this party cannot listen, in words without this host's address."""
    port = split(endpoint)[1]
    # UnicodeError: the name has a label that is empty or too long to be looked up
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return ConfigError(
            "the address registered for this party cannot be resolved on this host; "
            "correct the party's address, or set listen_host in party.toml"
        )
    if error.errno == errno.EADDRINUSE:
        return ResourceError(f"port {port} is already in use on this host")
    if error.errno == errno.EACCES:
        return ConfigError(f"this host may not listen on port {port}; register a port range above 1023")
    # Not the error's own text, into which asyncio puts the address
    return ConfigError(
        f"this host cannot listen at the address registered for it ({os.strerror(error.errno or 0)}); "
        "correct the party's address, or set listen_host in party.toml"
    )
