"""What a party tells the control plane of the tables that its party.toml registers: names, columns, perhaps counts."""

from __future__ import annotations

from typing import Any

from workers.errors import ConfigError
from workers.party import PartyHost
from workers.sources import readable

#: Kind of this report in a party's stream.
REPORT = "datasets"


def describe(host: PartyHost) -> dict[str, dict[str, Any]]:
    """Each registered table as far as the party's policy allows: ``columns`` and ``rows``, or ``error``.

    Raises ConfigError where the policy allows nothing.
    """
    if not host.publishes("columns"):
        raise ConfigError('party.toml says publish = "nothing"; set "columns", or "counts" to tell row counts too')
    found: dict[str, dict[str, Any]] = {}
    for name, source in host.registered().items():
        try:
            with host.private_directory("publish") as directory:
                [table] = readable({"": source}, directory).values()
                found[name] = host.published(host.describe(table))
        except ConfigError as error:
            found[name] = {"error": str(error)}
    return found
