"""Turns a pydantic model into the schema that django-jsonform draws, and what it sends back into a document.

django-jsonform shows every key of a schema and sends every key back, empty ones as ``""``, ``null``, ``[]``
or ``{}``; the documents' models want optional keys left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from django.utils.translation import gettext
from pydantic import BaseModel

from controlplane.language import translated
from workers.contract.documents import PARTY_NAME
from workers.contract.registry import DEVICE_REGISTRY

Schema = dict[str, Any]

DEVICES = {layer.removesuffix("_config") for layer in DEVICE_REGISTRY}
ACRONYMS = {"tls", "fxp", "psi", "ecdh", "http", "sf", "ml", "he", "sk", "msb", "brpc", *DEVICES}
#: Fields whose entries have a task type's own names.
ROLES = ("further_sources", "further_outputs")


@dataclass(frozen=True)
class Offer:
    """The choices that the registered parties offer in the form."""

    parties: Sequence[str] = ()
    #: party to the names of its datasets
    datasets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: party to the columns of all its datasets
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: further_sources and further_outputs to the roles that the task type has there
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)


def form_schema(model: type[BaseModel], offer: Offer, *, hidden: Sequence[str] = ()) -> Schema:
    """Return the schema of a document's form without fields marked IN_NO_FORM. ``hidden``: keys shown elsewhere."""
    schema = dict(json_schema(model))
    builder = _Builder(schema.pop("$defs", {}), offer)
    schema["properties"] = {k: v for k, v in schema["properties"].items() if k not in hidden}
    schema.pop("description", None)
    schema.pop("title", None)
    return builder.convert(schema, key="")


@cache
def json_schema(model: type[BaseModel]) -> Schema:
    """Return a model's JSON Schema, which is not to be changed: making it takes some milliseconds for each form."""
    return model.model_json_schema()


class _Builder:
    def __init__(self, definitions: Mapping[str, Schema], offer: Offer) -> None:
        self.definitions = definitions
        self.offer = offer

    def convert(self, schema: Schema, *, key: str, optional: bool = False, party: str | None = None) -> Schema:
        """Return django-jsonform's schema for a JSON Schema. ``optional``: no default is filled in. ``party``: the
        party whose columns and datasets can be selected."""
        schema, nullable = self._plain(schema)
        optional = optional or nullable
        kind = schema.get("type")
        made: Schema = {"type": kind}
        if key:
            made["title"] = translated(label(key))
        if "default" in schema and not optional and schema["default"] is not None:
            made["default"] = schema["default"]
        if description := schema.get("description"):
            made["description" if kind in ("object", "array") else "help_text"] = translated(description)
        convert: Callable[..., Schema] | None = getattr(self, f"_{kind}", None)
        return convert(made, schema, key, optional, party) if convert else made

    def _plain(self, schema: Schema) -> tuple[Schema, bool]:
        """Return the schema without references and without ``or null``, and whether null was allowed."""
        if "$ref" in schema:
            target = self.definitions[schema["$ref"].rpartition("/")[2]]
            # a class's docstring says what the class is, not what to fill in
            schema = {k: v for k, v in target.items() if k != "description"} | {
                k: v for k, v in schema.items() if k != "$ref"
            }
        if "anyOf" in schema:
            rest = [entry for entry in schema["anyOf"] if entry != {"type": "null"}]
            inner, _ = self._plain(rest[0])
            return {**inner, **{k: v for k, v in schema.items() if k != "anyOf"}}, True
        return schema, False

    def _object(self, made: Schema, schema: Schema, key: str, optional: bool, party: str | None) -> Schema:
        made.pop("default", None)
        if "properties" in schema:
            shown = {k: v for k, v in schema["properties"].items() if not _is_settled(v) and v.get("x-form", True)}
            made["properties"] = {
                name: self.convert(entry, key=name, optional=optional, party=party) for name, entry in shown.items()
            }
            made["required"] = [name for name in schema.get("required", []) if name in shown]
            return made
        values = next(iter(schema.get("patternProperties", {}).values()), None) or schema.get("additionalProperties")
        if key in ROLES:
            inner: Schema = values if isinstance(values, dict) else {}
            of = "data_sources" if key == "further_sources" else "outputs"
            made["properties"] = {
                role: self.convert(inner, key=of) | {"title": translated(label(role))}
                for role in self.offer.roles.get(key, ())
            }
            return made
        made["properties"] = {
            name: self.convert(values if isinstance(values, dict) else {"type": "string"}, key="", party=name)
            | {"title": name}
            for name in self.offer.parties
        }
        if key == "data_sources":
            for name, entry in made["properties"].items():
                entry["choices"] = [_choice(gettext("(none)")), *self.offer.datasets.get(name, ())]
        return made

    def _array(self, made: Schema, schema: Schema, key: str, optional: bool, party: str | None) -> Schema:
        made["items"] = self.convert(schema["items"], key="", party=party)
        made["items"].pop("title", None)
        if made["items"].get("choices"):
            made["items"]["widget"] = "multiselect"
        elif schema.get("minItems"):
            made["minItems"] = schema["minItems"]
        return made

    def _string(self, made: Schema, schema: Schema, key: str, optional: bool, party: str | None) -> Schema:
        if "enum" in schema:
            made["choices"] = [_default(), *schema["enum"]] if optional else list(schema["enum"])
        elif schema.get("pattern") == PARTY_NAME:
            made["choices"] = [_default(), *self.offer.parties] if optional else list(self.offer.parties)
        elif schema.get("format") == "column":
            columns = self.offer.columns
            names = columns.get(party, ()) if party else sorted({name for group in columns.values() for name in group})
            if names:
                made["choices"] = list(names)
        if schema.get("writeOnly"):
            made["format"] = "password"
        return made if "choices" in made else made | _placeholder(optional)

    def _boolean(self, made: Schema, schema: Schema, key: str, optional: bool, party: str | None) -> Schema:
        if optional:  # a checkbox cannot say "left out"
            made |= {"type": "string", "choices": [_default(), "true", "false"], "three_way": True}
            if isinstance(schema.get("default"), bool):
                made["in_force"] = schema["default"]  # if the object around it is there and holds nothing else
        return made

    def _integer(self, made: Schema, schema: Schema, key: str, optional: bool, party: str | None) -> Schema:
        made |= {k: schema[k] for k in ("minimum", "maximum") if k in schema} | _placeholder(optional)
        if allowed := bounds_of(schema):
            made["help_text"] = " ".join(
                filter(None, (made.get("help_text"), translated(f"{allowed[0].upper()}{allowed[1:]}.")))
            )
        return made

    _number = _integer


def bounds_of(schema: Mapping[str, Any]) -> str:
    """Return the range of a number in words, ``from 1 to 1000``; empty if any number is allowed."""

    def bound(inclusive: str, exclusive: str, word: str, other: str) -> str:
        value = schema.get(inclusive, schema.get(exclusive))
        if value is None or value in (-(2**63), 2**63 - 1):  # protobuf's own limits, which no useful value reaches
            return ""
        number = str(int(value)) if value == int(value) else str(value)
        return f"{word if inclusive in schema else other} {number}"

    low = bound("minimum", "exclusiveMinimum", "from", "above")
    high = bound("maximum", "exclusiveMaximum", "to", "below")
    return " ".join(filter(None, (low, high)))


def label(key: str) -> str:
    """Return a key in words: ``batch_size`` becomes ``Batch size``."""
    words = [word.upper() if word in ACRONYMS else word for word in key.rstrip("_").split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def _is_settled(schema: Schema) -> bool:
    """Return whether there is only one value to choose, and it is the default."""
    return "const" in schema and schema.get("default") == schema["const"]


def _default() -> Schema:
    """Return the choice that leaves something to its default."""
    return _choice(gettext("(default)"))


def _choice(title: str) -> Schema:
    return {"title": title, "value": ""}


def _placeholder(optional: bool) -> Schema:
    return {"placeholder": gettext("(default)")} if optional else {}


def pruned(value: Any, schema: Schema | None) -> Any:
    """Return the value without the parts that were left empty. ``[]`` and ``{}`` stay where the schema requires the
    key."""
    schema = schema or {}
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        cleaned = {key: pruned(entry, properties.get(key)) for key, entry in value.items()}
        return {
            key: entry
            for key, entry in cleaned.items()
            if entry is not None and entry != "" and (entry not in ([], {}) or key in required or key not in properties)
        }
    if isinstance(value, list):
        entries = [pruned(entry, schema.get("items")) for entry in value]
        return [entry for entry in entries if entry is not None and entry != ""]
    if schema.get("three_way") and value in ("true", "false"):
        return value == "true"
    return value


def fitted(value: Any, schema: Schema) -> Any:
    """Return the value in the shape that the schema draws, without what does not fit.

    A choice that is no longer offered is added to ``schema``, so that looking at a document does not change it.
    """
    kind = schema.get("type")
    if kind == "object":
        properties: dict[str, Schema] = schema.get("properties", {})
        given = value if isinstance(value, dict) else {}
        if isinstance(value, dict):
            # The form would send it back as left out, together with the object around it
            given = {name: entry["in_force"] for name, entry in properties.items() if "in_force" in entry} | given
        return {name: fitted(given[name], entry) for name, entry in properties.items() if name in given}
    if kind == "array":
        return [fitted(entry, schema["items"]) for entry in value] if isinstance(value, list) else []
    if kind in ("integer", "number"):
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if schema.get("three_way") and isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else ""
    choices = schema.get("choices")
    if choices is not None and text and text not in choices:
        choices.append({"title": gettext("{text} (not offered)").format(text=text), "value": text})
    return text
