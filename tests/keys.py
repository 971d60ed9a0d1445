"""The keys with which control plane and parties of the tests know each other."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis import Redis

from executions.coordinator.key import own_key
from workers.contract.events import EVENT, PIECE, SIGNATURE, TEXT, signed_part
from workers.contract.key_file import write_key
from workers.contract.keys import stream_of
from workers.contract.signing import Signer
from workers.host.stream import Stream


def _seed(party: str) -> bytes:
    return hashlib.sha256(party.encode()).digest()


@cache
def voice(party: str) -> Signer:
    """What signs a party's reports."""
    return Signer(Ed25519PrivateKey.from_private_bytes(_seed(party)))


def stream(connection: Redis, party: str) -> Stream:
    return Stream(connection, party, voice(party))


def signed(party: str, fields: dict[str, Any]) -> dict[str, Any]:
    """An entry of the party's stream that says this, as the party signs it."""
    raw = {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}
    kind = next(name for name in raw if name != TEXT)
    parts = [raw[kind]] + [raw.get(TEXT, b"")] * (kind == PIECE)
    return fields | {SIGNATURE: voice(party).sign(*signed_part(party, kind, *parts))}


def send(connection: Redis, party: str, **fields: Any) -> None:
    """Put an entry into the party's stream, signed by it."""
    connection.xadd(stream_of(party), signed(party, fields))


def send_event(connection: Redis, party: str, text: str | bytes) -> None:
    send(connection, party, **{EVENT: text})


def introduce(party_toml: Path, party: str = "alice") -> Path:
    """Have a party follow this control plane, and sign with its key: completes a party.toml. Returns it."""
    text = party_toml.read_text()
    place = f"\n{text}".index("\n[")
    known = f'[control_plane]\nkeys = ["{own_key().public_key}"]\n'
    party_toml.write_text(text[:place] + known + text[place:])
    key = party_toml.with_name("party.signing.key")
    if not key.exists():
        write_key(key, _seed(party))
    return party_toml
