"""SecretFlow's components as typed documents, made from ``registry.json``: the control plane needs no SecretFlow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import GenericAlias
from typing import Annotated, Any, Literal, Union, get_args

from pydantic import Field, create_model

from workers.components.export import REGISTRY
from workers.components.texts import tell
from workers.contract.documents import IN_NO_FORM, ColumnName, Document, PartyName
from workers.contract.problems import Problem

#: By component: why it cannot run here.
NOT_HERE = {
    "io/data_source": "fetches a table from Kuscia's DataMesh; register the table in party.toml instead",
    "io/data_sink": "sends a table to Kuscia's DataMesh; a party's outputs are kept on its own host instead",
    "ml.predict/serving_model_inferencer": "starts processes of SecretFlow-Serving that listen on ports of their own, "
    "without TLS; predict with the model itself, or take the exported model to a SecretFlow-Serving",
}
#: Packs a model for SecretFlow-Serving. It asks how the model was made; here that is stored with the model.
EXPORT = "model/model_export"
EXPORTED = ["sf.model.ss_sgd", "sf.model.ss_glm", "sf.model.sgb", "sf.model.ss_xgb"]
#: Domains, and components of other domains, whose output tables have all rows of the input in its order; and
#: exceptions.
KEEP_ROWS = ("ml.predict/", "preprocessing/", "postprocessing/", "data_filter/feature_filter")
CHANGE_ROWS = ("preprocessing/sql_processor",)
TABLES = frozenset({"sf.table.individual", "sf.table.vertical"})
REPORT, READ = "sf.report", "sf.read_data"
TYPES: dict[str, Any] = {"number": float, "integer": int, "text": str, "boolean": bool, "party": PartyName}
#: Limits of protobuf's integers.
SMALLEST, LARGEST = -(2**63), 2**63 - 1


class Columns(Document):
    """Columns of one input table, by what they are to the component."""

    features: dict[PartyName, list[ColumnName]] = Field(
        default_factory=dict, description="For each party the columns to compute with."
    )
    labels: dict[PartyName, list[ColumnName]] = Field(
        default_factory=dict, description="For each party the columns that are a label or a prediction."
    )
    ids: dict[PartyName, list[ColumnName]] = Field(
        default_factory=dict, description="For each party the columns that identify a row, such as keys."
    )

    def of(self, party: str) -> dict[str, str]:
        """Return the party's columns, each with its kind: id, feature or label, in SecretFlow's order."""
        kinds = (("ID", self.ids), ("FEATURE", self.features), ("LABEL", self.labels))
        return {column: kind for kind, named in kinds for column in named.get(party, ())}

    def parties(self) -> list[str]:
        """Return the parties that have a column in the table, in the order in which they are named."""
        return [*dict.fromkeys([*self.ids, *self.features, *self.labels])]


@dataclass(frozen=True)
class Component:
    """One of SecretFlow's components. Its entries are those that ``export`` writes."""

    id: str
    version: str
    description: str
    devices: list[str]
    attributes: list[dict[str, Any]]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]

    @property
    def not_here(self) -> str:
        """Return why it cannot run here; empty if it can."""
        return NOT_HERE.get(self.id, "")

    @property
    def keeps_rows(self) -> bool:
        """Return whether its output tables have all rows of its input, in their order."""
        return self.id.startswith(KEEP_ROWS) and self.id not in CHANGE_ROWS

    @property
    def tables(self) -> list[dict[str, Any]]:
        """Return the inputs that are tables."""
        return [entry for entry in self.inputs if TABLES & set(entry["kinds"])]

    @property
    def models(self) -> list[dict[str, Any]]:
        """Return the inputs that are not tables: models, rules, caches."""
        return [entry for entry in self.inputs if not TABLES & set(entry["kinds"])]

    @property
    def kept(self) -> list[dict[str, Any]]:
        """Return the outputs that parties keep. Reports become the execution's result."""
        return [entry for entry in self.outputs if entry["kinds"] not in ([REPORT], [READ])]

    @cached_property
    def params(self) -> type[Document]:
        """Return the model of its parameters: ``component``, ``attributes``, and ``columns`` of each input table."""
        fields: dict[str, Any] = {
            "component": (Literal[self.id], Field(description="SecretFlow's name of the component."))
        }
        if self.tables:
            tables: dict[str, Any] = {
                table["name"]: (self._columns(table), _described(table, ...)) for table in self.tables
            }
            model = create_model("Tables", __base__=Document, **tables)
            fields["columns"] = (model, Field(description="Columns of each input table, and what they are used as."))
        if self.attributes:
            fields["attributes"] = _group_field("Attributes", self.attributes, "How it computes.")
        else:
            none = create_model("Attributes", __base__=Document)
            text = "This component has none: {} or nothing."
            fields["attributes"] = (none, Field(default_factory=none, description=text, json_schema_extra=IN_NO_FORM))
        return create_model("ComponentParams", __base__=Document, __doc__=self.description, **fields)

    @staticmethod
    def _columns(table: Mapping[str, Any]) -> type[Document]:
        if not table["columns"]:
            return Columns
        fields: dict[str, Any] = {}
        for entry in table["columns"]:
            kind: Any = ColumnName if entry["most"] == 1 else list[ColumnName]
            fields[entry["name"]] = (Union[kind, None], _described(entry, None))  # noqa: UP007  made at run time
        select = create_model("Select", __base__=Document, **fields)
        note = "What the component asks for; left out, all features, the labels or the ids are meant, as it fits."
        return create_model(
            "Columns", __base__=Columns, select=(select, Field(default_factory=select, description=note))
        )


def _described(entry: Mapping[str, Any], default: Any) -> Any:
    return Field(default, description=_text(entry))


def _text(entry: Mapping[str, Any]) -> str:
    """Return an entry's description, as a sentence."""
    text: str = entry.get("help") or entry.get("description") or entry["name"]
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _group(name: str, entries: list[dict[str, Any]]) -> type[Document]:
    fields: dict[str, Any] = {entry["name"]: _field(entry) for entry in entries}
    return create_model(name, __base__=Document, **fields)


def _has_required(entries: list[dict[str, Any]]) -> bool:
    return any(_field(entry)[1].is_required() for entry in entries)


def _field(entry: dict[str, Any]) -> tuple[Any, Any]:
    """Return type and field of an attribute, or of a message's field."""
    kind, text = entry["kind"], _text(entry)
    if kind == "group":
        return _group_field("Group", entry["fields"], text)
    if kind == "choice":
        options = {o["name"]: o for o in entry["options"]}
        names = ", ".join(f"{o['name']}: {o['description']}" for o in options.values() if o["description"] != o["name"])
        chosen = Field(default=entry["default"], description=f"{text} {names}".strip())
        fields: dict[str, Any] = {"choose": (Literal[tuple(options)], chosen)}
        for name, option in options.items():
            if option["kind"] in ("group", "choice"):
                inner, found = _field(option)
                # needed only if it is chosen
                fields[name] = (Union[inner, None], Field(default=None, description=found.description))  # noqa: UP007
        model = create_model("Choice", __base__=Document, **fields)
        return model, Field(default_factory=model, description=text)
    if kind == "message":
        made: Any = _group("Message", [{"optional": True, "default": None, **field} for field in entry["fields"]])
        if entry.get("list"):
            return GenericAlias(list, (made,)), Field(default_factory=list, description=text)
        if "description" in entry:
            return made, Field(description=text)
        return Union[made, None], Field(default=None, description=text)  # noqa: UP007
    return _plain(entry, text)


def _group_field(name: str, entries: list[dict[str, Any]], text: str) -> tuple[Any, Any]:
    model = _group(name, entries)
    if _has_required(entries):
        return model, Field(description=text)
    return model, Field(default_factory=model, description=text)


def _plain(entry: Mapping[str, Any], text: str) -> tuple[Any, Any]:
    kind: Any = Literal[tuple(entry["choices"])] if entry.get("choices") else TYPES[entry["kind"]]
    limits: dict[str, Any] = {"minimum": "ge", "exclusive_minimum": "gt", "maximum": "le", "exclusive_maximum": "lt"}
    bounds = {word: entry[name] for name, word in limits.items() if name in entry}
    if entry["kind"] == "integer":
        bounds = ({} if {"ge", "gt"} & set(bounds) else {"ge": SMALLEST}) | bounds
        bounds = ({} if {"le", "lt"} & set(bounds) else {"le": LARGEST}) | bounds
    if entry.get("list"):
        size: dict[str, Any] = {"min_length": entry.get("least") or None, "max_length": entry.get("most")}
        inner = _annotated(kind, bounds)
        if entry.get("optional"):
            return GenericAlias(list, (inner,)), Field(
                default_factory=lambda: list(entry.get("default") or ()), description=text
            )
        return GenericAlias(list, (inner,)), Field(description=text, **size)
    if entry.get("optional"):
        if entry.get("default") is None:
            kind = Union[kind, None]  # noqa: UP007
        return kind, Field(default=entry.get("default"), description=text, **bounds)
    return kind, Field(description=text, **bounds)


def _annotated(kind: Any, bounds: Mapping[str, Any]) -> Any:
    return Annotated[kind, Field(**bounds)] if bounds else kind


@cache
def components() -> dict[str, Component]:
    """Return all components, by id."""
    found = json.loads(REGISTRY.read_text())["components"]
    export = found[EXPORT]
    export["attributes"] = [a for a in export["attributes"] if a["name"] in ("model_name", "model_desc", "he_mode")]
    export["inputs"] = [{"name": "input_model", "description": "The model.", "kinds": EXPORTED, "columns": []}]
    for name, entry in found.items():
        tell(name, entry)
    return {name: Component(name, **entry) for name, entry in found.items()}


def inner_model(choice: Document, option: str) -> type[Document]:
    """Return the model of an option's own attributes."""
    model: type[Document] = get_args(type(choice).model_fields[option].annotation)[0]
    return model


def check_choices(entries: list[dict[str, Any]], values: Any) -> Iterator[Problem]:
    """Check that the chosen options have the attributes that they need, and that others have none."""
    for entry in (entry for entry in entries if entry["kind"] == "choice"):
        value = getattr(values, entry["name"])
        for option in (o for o in entry["options"] if o["kind"] in ("group", "choice")):
            path, is_given = f"{entry['name']}.{option['name']}", getattr(value, option["name"]) is not None
            if is_given and option["name"] != value.choose:
                yield Problem(path, f"would be ignored, {value.choose} is chosen", "remove it")
            if not is_given and option["name"] == value.choose and _has_required(option.get("fields", [])):
                yield Problem(path, "is required, since it is chosen", "say how")


def flattened(entries: list[dict[str, Any]], values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield typed attributes as SecretFlow takes them: path to value."""
    for entry in entries:
        path, value = f"{prefix}{entry['name']}", getattr(values, entry["name"])
        if entry["kind"] == "group":
            yield from flattened(entry["fields"], value, f"{path}/")
        elif entry["kind"] == "choice":
            yield path, value.choose
            option = next(o for o in entry["options"] if o["name"] == value.choose)
            if option["kind"] in ("group", "choice"):
                if getattr(value, option["name"]) is None:
                    value = value.model_copy(update={option["name"]: inner_model(value, option["name"])()})
                yield from flattened([option], value, f"{path}/")
        elif entry["kind"] == "message":
            yield path, json.dumps(value.model_dump(exclude_none=True, exclude_unset=True))
        elif value is not None:
            yield path, [value] if entry["kind"] == "party" and isinstance(value, str) else value
