"""Checks that what stands in a party's stream was written by the party."""

from __future__ import annotations

from collections.abc import Mapping

from executions.coordinator.messages import Unusable
from workers.contract.events import PIECE, SIGNATURE, TEXT, signed_part
from workers.contract.signing import SignatureRefused, Verifier


class Voices:
    """The signing keys of all parties, as they are registered now."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Verifier]] = {}

    def learn(self, keys: Mapping[str, str]) -> None:
        """Take over the registered keys, by party."""
        self._known = {
            party: found if (found := self._known.get(party)) and found[0] == text else (text, Verifier(text.split()))
            for party, text in keys.items()
        }

    @property
    def parties(self) -> list[str]:
        return list(self._known)

    def check(self, party: str, kind: str, fields: Mapping[bytes, bytes]) -> None:
        """Raise Unusable unless the party signed this entry of its stream, which is of this kind."""
        parts = [fields[kind.encode()]] + [fields.get(TEXT.encode(), b"")] * (kind == PIECE)
        try:
            self._known[party][1].check(*signed_part(party, kind, *parts), fields.get(SIGNATURE.encode()))
        except SignatureRefused as error:
            raise Unusable(str(error)) from None
