"""Secrets in documents: which values are secrets, and how they travel to the one party that may read them.

A field of a document or of a task type's parameters is a secret by its type, ``Secret``. Wherever a document is
shown it is masked; on its way to a party it is sealed with that party's public key (HPKE, RFC 9180), so that
neither Redis nor another party reads it. A secret below a party's name in a document is sent to that party alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from pydantic import BaseModel, Field, StringConstraints

from workers.contract.layers import layers, model_of
from workers.contract.registry import TASK_EXECUTOR_REGISTRY

#: A value that is shown to nobody: a token, a password, key material. Forms show a password field. The type has no
#: constraints, since encrypted values are validated, too.
Secret = Annotated[
    str,
    StringConstraints(min_length=1, max_length=60_000),
    Field(json_schema_extra={"format": "password", "writeOnly": True}),
]
#: Shown in place of a secret. If it is sent back, the secret stays as it was.
MASK = "********"
SEALED = "sealed:"
PUBLIC_KEY = "x25519:"

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

#: Function of a path in the document (keys and indices) and the value there. Returns the new value.
Change = Callable[[tuple[str, ...], str], str]


def with_secrets_changed(documents: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Return documents by layer, with every secret replaced; paths begin with the layer. Values that do not fit their
    model stay."""
    return {layer: change_secrets(layer, document, change) for layer, document in documents.items()}


def change_secrets(layer: str, document: Any, change: Change) -> Any:
    """Return one document with every secret in it replaced; paths begin with the layer."""
    if layer not in layers() or not isinstance(document, Mapping):
        return document
    changed: Any = _changed(document, model_of(layer), (layer,), change)
    name, params = document.get("task_type"), document.get("algorithm_params")
    if layer == "task_config" and isinstance(name, str) and name in TASK_EXECUTOR_REGISTRY:
        executor = TASK_EXECUTOR_REGISTRY[name]
        key = executor.params_key
        if isinstance(params, Mapping) and key in params:
            inner = _changed(params[key], executor.Params, (layer, "algorithm_params", key), change)
            changed = {**changed, "algorithm_params": {**params, key: inner}}
    return changed


def _changed(value: Any, model: type[BaseModel], path: tuple[str, ...], change: Change) -> Any:
    schema = _schema_with_secrets(model)
    return value if schema is None else _walk(value, schema, schema.get("$defs", {}), path, change)


@cache
def _schema_with_secrets(model: type[BaseModel]) -> dict[str, Any] | None:
    """Return the schema of a layer if it has secrets; None, as for most, if it has none."""
    schema = model.model_json_schema()
    return schema if '"writeOnly": true' in json.dumps(schema) else None


def secrets_of(layer: str, document: Any) -> dict[tuple[str, ...], str]:
    """Return one document's secrets by their paths, which begin with the layer."""
    found: dict[tuple[str, ...], str] = {}

    def note(path: tuple[str, ...], value: str) -> str:
        found[path] = value
        return value

    change_secrets(layer, document, note)
    return found


def masked_document(layer: str, document: Any) -> Any:
    """Return one document as it may be shown to people and programs."""
    return change_secrets(layer, document, lambda path, value: MASK)


def masked(documents: Mapping[str, Any]) -> dict[str, Any]:
    """Return documents by layer as they may be shown to people and programs."""
    return {layer: masked_document(layer, document) for layer, document in documents.items()}


def _walk(value: Any, schema: Any, definitions: Mapping[str, Any], path: tuple[str, ...], change: Change) -> Any:
    if not isinstance(schema, Mapping):
        return value
    if "$ref" in schema:
        target = definitions.get(schema["$ref"].rpartition("/")[2], {})
        return _walk(value, target | {k: v for k, v in schema.items() if k != "$ref"}, definitions, path, change)
    for alternatives in ("anyOf", "oneOf", "allOf"):
        for alternative in schema.get(alternatives, ()):
            value = _walk(value, alternative, definitions, path, change)
    if isinstance(value, str):
        return change(path, value) if schema.get("writeOnly") else value
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        others = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
        return {k: _walk(v, properties.get(k, others), definitions, (*path, str(k)), change) for k, v in value.items()}
    if isinstance(value, list):
        items = schema.get("items")
        return [_walk(v, items, definitions, (*path, str(i)), change) for i, v in enumerate(value)]
    return value


# --- on the way to a party


def seal(public_key: str, text: str, purpose: str) -> str:
    """Return the text encrypted so that only the party's private key can read it. Raises ValueError for a bad key."""
    sealed = SUITE.encrypt(text.encode(), read_public_key(public_key), info=purpose.encode())
    return SEALED + base64.b64encode(sealed).decode()


def read_public_key(text: str) -> X25519PublicKey:
    """Return the public key. Raises ValueError for a bad one."""
    if not text.startswith(PUBLIC_KEY):
        raise ValueError(f"a public key begins with {PUBLIC_KEY}")
    return X25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix(PUBLIC_KEY), validate=True))
