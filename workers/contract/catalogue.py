"""The catalogue: what is known of parties and their datasets where documents are validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

#: Column name to type: ``int``, ``float``, ``str`` or ``bool``.
Columns = Mapping[str, str]
NUMERIC = frozenset({"int", "float", "bool"})
#: Tier of the security checks; ``trial`` is for test data only.
Security = Literal["production", "trial"]


class Catalogue(Protocol):
    """What is known here of parties. The control plane knows everything registered, a party host only its own data."""

    @property
    def security(self) -> Security:
        """Return the tier of the security checks here."""

    def address(self, party: str) -> str | None:
        """Return the host at which the other parties reach the party; None if it is not known."""

    def datasets(self, party: str) -> Mapping[str, Columns | None] | None:
        """Return the party's datasets by name, each with its columns (None: not known); None if nothing is known of the
        party."""

    def kept_names(self, party: str) -> set[str]:
        """Return names of the party's datasets that an output may not replace."""

    def kind(self, party: str, name: str) -> str | None:
        """Return the kind of what the party has under that name: TABLE, or a type of SecretFlow's such as sf.model.sgb;
        None if it is not known."""


#: Kind of tables: CSV with a header line. The kinds of models and rules are SecretFlow's type names.
TABLE = "table"


class NothingKnown:
    """A catalogue that knows no parties, so that checks against what is registered pass."""

    security: Security = "production"

    def address(self, party: str) -> None:
        return None

    def datasets(self, party: str) -> None:
        return None

    def kept_names(self, party: str) -> set[str]:
        return set()

    def kind(self, party: str, name: str) -> None:
        return None
