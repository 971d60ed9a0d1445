"""Describes every task type for people and services. It uses the parameter models, so a new task type needs nothing
else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from controlplane.examples import before, request_of
from controlplane.forms.schema import bounds_of
from workers.contract.documents import PARTY_NAME
from workers.contract.registry import TASK_EXECUTOR_REGISTRY

if TYPE_CHECKING:
    from workers.executors.base import BaseTaskExecutor


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, described for people."""

    path: str
    #: Type and range in words, such as ``number from 1 to 1000`` or ``one of a, b``.
    kind: str
    required: bool
    #: Default as JSON; empty if there is none.
    default: str
    help: str


@cache
def parameters(executor: type[BaseTaskExecutor], variant: str = "") -> Sequence[Parameter]:
    """Return the parameters of a task type or of one of its variants; those in a group are named after the group.
    Cached, as the models do not change."""
    schema = (executor.params_model(variant) if variant else executor.Params).model_json_schema()
    return tuple(_parameters(schema, schema.get("$defs", {}), executor.params_key))


def _parameters(schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str) -> Iterator[Parameter]:
    for name, entry in schema.get("properties", {}).items():
        plain = _plain(entry, definitions)
        path = f"{prefix}.{name}"
        if "properties" in plain:
            yield from _parameters(plain, definitions, path)
            continue
        inner = _plain(plain["items"], definitions) if plain.get("type") == "array" else {}
        default = json.dumps(plain["default"]) if plain.get("default") is not None else ""
        required = name in schema.get("required", ())
        yield Parameter(path, _kind(plain, definitions), required, default, entry.get("description", ""))
        if "properties" in inner:
            yield from _parameters(inner, definitions, f"{path}[]")


def _plain(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema without references and without ``or null``."""
    if "$ref" in schema:
        return {**definitions[schema["$ref"].rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}
    if "anyOf" in schema:
        first = next(entry for entry in schema["anyOf"] if entry != {"type": "null"})
        return {**_plain(first, definitions), **{k: v for k, v in schema.items() if k != "anyOf"}}
    return dict(schema)


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
        return "one of " + ", ".join(map(str, choices))
    match schema.get("type"):
        case "array":
            items = _plain(schema["items"], definitions)
            return "list of objects" if "properties" in items else f"list: {_kind(items, definitions)}"
        case "object":
            values = next(iter(schema.get("patternProperties", {}).values()), None)
            # It has no fixed shape: its content depends on the variant
            return f"for each party: {_kind(_plain(values, definitions), definitions)}" if values else "object"
        case "string" if schema.get("pattern") == PARTY_NAME:
            return "party"
        case "string":
            return "column" if schema.get("format") == "column" else "secret" if schema.get("writeOnly") else "text"
        case "boolean":
            return "true or false"
        case kind:
            name = "whole number" if kind == "integer" else "number"
            return " ".join(filter(None, (name, bounds_of(schema))))


@cache
def described() -> Sequence[Mapping[str, Any]]:
    """Return every registered task type, in the registry's order. Cached, as the registry does not change."""
    return [
        {
            "name": name,
            "title": executor.title,
            "description": executor.description(),
            "devices": list(executor.devices),
            "params_key": executor.params_key,
            "params_schema": executor.Params.model_json_schema(),
            "result_schema": executor.Result.model_json_schema(),
            "places": [asdict(place) for place in executor.places("")],
            **_with_request(executor.example),
            "variants": [
                {
                    "name": variant,
                    "description": text,
                    "cannot_run": executor.not_here(variant),
                    "places": [asdict(place) for place in executor.places(variant)],
                    **_with_request(executor.example_of(variant)),
                    "params_schema": executor.params_model(variant).model_json_schema(),
                }
                for variant, text in executor.variants().items()
            ],
        }
        for name, executor in TASK_EXECUTOR_REGISTRY.items()
    ]


def _with_request(example: Mapping[str, Any]) -> dict[str, Any]:
    return {"example": example, "request": request_of(example), "before": before(example)}
