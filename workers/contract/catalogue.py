"""What is known of parties and their datasets where documents are validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

#: Column name to type: ``int``, ``float``, ``str`` or ``bool``.
Columns = Mapping[str, str]
NUMERIC = frozenset({"int", "float", "bool"})
#: How strict the checks of security are; ``trial`` is for trying things out with data that is no secret.
Security = Literal["production", "trial"]


class Catalogue(Protocol):
    """What is known here of parties: everything registered on the control plane, its own on a party host."""

    @property
    def security(self) -> Security:
        """The tier that holds here."""

    def address(self, party: str) -> str | None:
        """Host at which the other parties reach it; None where that is not known."""

    def datasets(self, party: str) -> Mapping[str, Columns | None] | None:
        """Return the party's datasets, each with its columns (None: not known); None where nothing is known."""

    def kept_names(self, party: str) -> set[str]:
        """Return names of the party's datasets that an output may not replace."""

    def kind(self, party: str, name: str) -> str | None:
        """Return what the party has under that name: a TABLE, or such as sf.model.sgb; None where that is not known."""


#: Kind of what is kept as CSV with a header line. Models and rules have SecretFlow's type names.
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
