"""Any of SecretFlow's own components, as one task type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, create_model

from workers.components.definition import EXPORT, TABLES, Component, check_choices, components, flattened
from workers.components.examples import example_of
from workers.components.files import Kept
from workers.components.minimum import check_minimum
from workers.components.pairing import PSI, UNBALANCED, check_keys_of, keys_among, keys_as_text
from workers.components.run import Runner, how_it_was_made
from workers.components.shares import BY_MODEL, check_shares, spu_settings, with_spu
from workers.components.wrong import (
    TOLD,
    check_alike,
    check_arithmetic,
    check_attributes,
    check_binned,
    check_encoded,
    check_model,
    check_scaled,
    check_table,
    split_apart,
)
from workers.contract.catalogue import TABLE, Catalogue
from workers.contract.checks import check_column, check_parties, not_a_party
from workers.contract.documents import Document, PartyName, SFInitConfig, TaskConfig
from workers.contract.problems import DocumentsInvalid, Problem, closest
from workers.contract.results import ComponentResult
from workers.contract.roles import Place, Roles
from workers.executors.base import BaseTaskExecutor
from workers.host.tables import types_of


def _any() -> type[Document]:
    """Return the model of the parameters that all components have in common."""
    names: Any = Literal[tuple(components())]
    return create_model(
        "ComponentParams",
        __base__=Document,
        component=(names, Field(description="SecretFlow's name of the component.")),
        columns=(
            dict[str, Any],
            Field(
                default_factory=dict,
                description="For each input table its columns: features, labels and ids, by party.",
            ),
        ),
        attributes=(dict[str, Any], Field(default_factory=dict, description="The component's own parameters.")),
    )


@dataclass(slots=True)
class Prepared:
    params: Any
    component: Component
    #: This party's inputs that are not tables, by role.
    models: dict[str, Kept]


class ComponentExecutor(BaseTaskExecutor):
    """Runs one of SecretFlow's own components. Its inputs and outputs have SecretFlow's names. An input that
    ``further_sources`` does not name is read from ``data_sources``; the first output is kept under the name in
    ``outputs``, others under those in ``further_outputs``. Reports become the execution's result; models and rules are
    kept by all parties, each its own part."""

    title = "SecretFlow component"
    params_key = "component_params"
    Params = _any()
    Result = ComponentResult
    devices = ()
    example = example_of(components()["stats/table_statistics"])
    preload = ("secretflow.component.core",)

    @classmethod
    def variants(cls) -> Mapping[str, str]:
        return {name: found.description for name, found in components().items()}

    @classmethod
    def not_here(cls, variant: str) -> str:
        return components()[variant].not_here

    @classmethod
    def example_of(cls, variant: str) -> Mapping[str, Any]:
        return example_of(components()[variant]) if variant else cls.example

    @classmethod
    def places(cls, variant: str) -> list[Place]:
        return [*_places(components()[variant])] if variant else []

    @classmethod
    def params_model(cls, variant: str) -> type[Document]:
        return components()[variant].params

    @classmethod
    def model_for(cls, given: Any) -> type[Document]:
        found = _named(given)
        return found.params if found else cls.Params

    @classmethod
    def parse_params(cls, algorithm_params: Mapping[str, Any]) -> Any:
        found = _named(algorithm_params.get(cls.params_key))
        if found and found.not_here:
            # Before its attributes are checked, which would be pointless
            raise DocumentsInvalid([Problem(f"{cls.params_key}.component", "cannot run here", found.not_here)])
        return super().parse_params(algorithm_params)

    @classmethod
    def roles(cls, params: Any) -> Roles:
        component = components()[params.component]
        kinds = {entry["name"]: _kinds(entry) for entry in component.inputs}
        return Roles(
            sources=kinds,
            outputs={entry["name"]: _kinds(entry) for entry in component.kept[1:]},
            main=frozenset().union(*kinds.values()),
            kept=_kinds(component.kept[0]) if component.kept else frozenset(),
            is_required=False,
        )

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        component = components()[params.component]
        base = f"algorithm_params.{cls.params_key}"
        for problem in _check_tables(component, params, task, cluster, catalogue):
            yield problem.under(f"{base}.columns")
        if component.attributes:
            wrong = [*check_choices(component.attributes, params.attributes)]
            yield from (problem.under(f"{base}.attributes") for problem in wrong)
            if wrong:
                return
            if found := check_attributes(component.id, params.attributes):
                yield Problem(f"{base}.attributes.{found[0]}", *found[1:])
            for path, party in _parties(component.attributes, params.attributes):
                if party not in cluster.parties:
                    yield not_a_party(f"{base}.attributes.{path}", cluster.parties)
        if component.id == "data_filter/condition_filter":
            yield from _check_bound(component, params, task, catalogue, base)
        for model in component.models:
            for party in cluster.parties:
                if _source(task, model["name"], party) is None and "sf.null" not in model["kinds"]:
                    path = f"further_sources.{model['name']}.{party}"
                    yield Problem(path, "is required", f"name what {party} keeps as {' or '.join(model['kinds'])}")
        yield from _check_outputs(component, task, cluster)

    @classmethod
    def needs(cls, params: Any) -> tuple[str, ...]:
        component = components()[params.component]
        if component.id == "preprocessing/vert_woe_binning":
            return (params.attributes.secure_device_type,)
        return tuple(component.devices)

    @classmethod
    def matches_rows(cls, params: Any) -> bool:
        return params.component in PSI | UNBALANCED

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params = self.parse_params(algorithm_params)
        component = components()[params.component]
        context = self.context
        for table in component.tables:
            given = getattr(params.columns, table["name"])
            columns = given.of(context.party)
            if columns:
                source = context.source_of(table["name"])
                assert source  # otherwise the documents were not valid
                types_of(source.path, source.name, list(columns))
                chosen = dict(selected(table, given))
                by, scaled = ([c for c in chosen.get(name, []) if c in columns] for name in ("by", "features"))
                operands = [c for name in ("f1", "f2") for c in chosen.get(name, []) if c in columns]
                check_table(component.id, source, list(columns), by)
                check_scaled(component.id, params.attributes, source, scaled)
                check_encoded(component.id, source, scaled)
                binned = [c for c in chosen.get("feature_selects", []) if c in columns]
                check_binned(component.id, source, binned)
                check_arithmetic(component.id, params.attributes, source, operands)
                if first := context.source_of(component.tables[0]["name"]):
                    check_alike(component.id, first, source, list(columns))
                check_keys_of(component.id, table["name"], params.attributes, keys_among(chosen), source)
        models = {entry["name"]: context.source_of(entry["name"]) for entry in component.models}
        kept = {role: Kept(source.path, source.name, context.party) for role, source in models.items() if source}
        for role, model in kept.items():
            check_model(component.id, (context.source_of(role) or context.source).name, model)
        return Prepared(params, component, kept)

    def adapted(self, algorithm_params: Prepared, devices: Mapping[str, Any]) -> Mapping[str, Any]:
        attributes = getattr(algorithm_params.params, "attributes", None)
        model = next(iter(algorithm_params.models.values()), None)
        found = with_spu(devices, spu_settings(algorithm_params.component, attributes, model))
        for role, kept in algorithm_params.models.items():
            if source := self.context.source_of(role):
                check_shares(kept, source.name, found, self.context.parties)
        return found

    @classmethod
    def shapes_devices(cls, params: Any) -> Any:
        component = components()[params.component]
        if component.id in BY_MODEL:
            return super().shapes_devices(params)
        return spu_settings(component, getattr(params, "attributes", None), None) or None

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        params, component, context = algorithm_params.params, algorithm_params.component, self.context
        runner = Runner(context)
        inputs: list[Any] = []
        attributes: dict[str, Any] = {}
        for entry in component.inputs:
            if entry in component.tables:
                columns = getattr(params.columns, entry["name"])
                chosen = dict(selected(entry, columns))
                keys = keys_as_text(component.id, chosen)
                source = context.source_of(entry["name"])
                inputs.append(runner.table(entry["name"], columns, source, signs=True, texts=keys))
                attributes |= {f"input/{entry['name']}/{n}": v for n, v in chosen.items()}
            else:
                inputs.append(runner.model(entry["name"], algorithm_params.models.get(entry["name"])))
        if component.attributes:
            attributes |= dict(flattened(component.attributes, params.attributes))
        if source := context.source_of(component.tables[0]["name"]) if component.tables else None:
            attributes |= split_apart(component.id, attributes, source)
        if component.id == EXPORT:
            attributes |= how_it_was_made(algorithm_params.models["input_model"].record, inputs.pop())
        check_minimum(context, component.id)
        context.progress(0.05)
        outputs = runner.run(component, attributes, inputs, lambda done: context.progress(0.05 + 0.85 * done))
        kept = {entry["name"]: outputs[entry["name"]] for entry in component.kept}
        main = context.source_of(component.tables[0]["name"]) if component.tables and component.keeps_rows else None
        runner.keep(
            {"" if index == 0 else name: data for index, (name, data) in enumerate(kept.items())},
            alignment=main.alignment if main else None,
        )
        context.warnings += [TOLD[component.id]] if component.id in TOLD else []
        context.progress(1.0)
        return {"component": component.id} | runner.reports(outputs)


def selected(table: Mapping[str, Any], columns: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the columns that the component asks for by name. If none are named, all columns that fit."""

    def every(kind: str) -> list[str]:
        return [column for party in columns.parties() for column, k in columns.of(party).items() if k == kind]

    for entry in table["columns"]:
        chosen = getattr(columns.select, entry["name"])
        name = entry["name"]
        if chosen is None and (entry["least"] or name == "keys"):
            chosen = every(
                "LABEL" if name in ("label", "prediction") else "ID" if name.startswith("keys") else "FEATURE"
            )
        yield entry["name"], [chosen] if isinstance(chosen, str) else list(chosen or ())


def _named(given: Any) -> Component | None:
    """Return the component that these parameters name; None if they name none. They may be anything."""
    name = given.get("component") if isinstance(given, Mapping) else None
    return components().get(name) if isinstance(name, str) else None


def _kinds(entry: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(TABLE if kind in TABLES else kind for kind in entry["kinds"])


def _places(component: Component) -> Iterator[Place]:
    """Yield inputs and outputs in SecretFlow's order."""
    for entry in component.inputs:
        further = f"further_sources.{entry['name']}"
        if entry in component.models and component.tables:
            yield _place(entry, further)
        elif entry in component.tables[1:]:
            yield _place(entry, further, " For a party that has no other table here, data_sources will do.")
        else:
            yield _place(entry, "data_sources")
    for entry in component.outputs:
        where = "the execution's result"
        if entry in component.kept:
            where = "outputs" if entry == component.kept[0] else f"further_outputs.{entry['name']}"
        yield _place(entry, where)


def _place(entry: Mapping[str, Any], where: str, more: str = "") -> Place:
    text = " ".join(entry["description"].replace("_", " ").split()).rstrip(".")
    # sf.null means that the input may be left out, which is not possible if it is all that a task reads
    return Place(
        entry["name"], where, tuple(sorted(_kinds(entry) - {"sf.null"})), f"{text[:1].upper()}{text[1:]}.{more}"
    )


def _source(task: TaskConfig, role: str, party: str) -> str | None:
    return task.further_sources.get(role, {}).get(party) or task.data_sources.get(party)


def _check_tables(
    component: Component, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
) -> Iterator[Problem]:
    for table in component.tables:
        name, columns = table["name"], getattr(params.columns, table["name"])
        seen: dict[str, tuple[str, str]] = {}
        for kind in ("features", "labels", "ids"):
            named = getattr(columns, kind)
            yield from check_parties(named, cluster, f"{name}.{kind}")
            for party, wanted in named.items():
                for index, column in enumerate(wanted):
                    path = f"{name}.{kind}.{party}.{index}"
                    if column in seen:
                        remedy = (
                            "name it once"
                            if seen[column][1] == party
                            else f"rename {column!r} in the table of one of the parties, or leave it out there: the "
                            "columns of all parties make one table here, in which each needs a name of its own"
                        )
                        yield Problem(path, f"is named at {'.'.join(seen[column])}, too", remedy)
                    seen[column] = (kind, party)
                    if "." in column:
                        yield Problem(path, "has a dot in its name, which components cannot read", "rename the column")
                    yield from check_column(catalogue, task, party, column, path, dataset=_source(task, name, party))
        parties = columns.parties()
        if not parties:
            yield Problem(name, "names no column", "name at least one column of a party")
        elif len(parties) > 1 and "sf.table.vertical" not in table["kinds"]:
            yield Problem(name, f"has columns of {' and '.join(parties)}", "this input is the table of one party")
        elif len(parties) == 1 and "sf.table.individual" not in table["kinds"]:
            yield Problem(name, f"has columns of {parties[0]} alone", "this input takes columns of two or more parties")
        for party in parties:
            if party in cluster.parties and _source(task, name, party) is None:
                yield Problem(name, f"has columns of {party}, of whom no table is named", f"add data_sources.{party}")
        yield from _check_select(table, columns, seen)


def _check_bound(
    component: Component, params: Any, task: TaskConfig, catalogue: Catalogue, base: str
) -> Iterator[Problem]:
    """Check that a column is compared with values of its type: otherwise SecretFlow stops during the run without saying
    why."""
    [table], columns, attributes = component.tables, params.columns.input_ds, params.attributes
    for feature in dict(selected(table, columns))["feature"]:
        owner = next((party for party, named in columns.features.items() if feature in named), "")
        known = (catalogue.datasets(owner) or {}).get(_source(task, table["name"], owner) or "") or {}
        number: Any = {"int": int, "float": float}.get(known.get(feature, ""))
        for part in attributes.bound_value.split(",") if number and attributes.comparator != "NOTNULL" else ():
            try:
                number(part)
            except ValueError:
                path = f"{base}.attributes.bound_value"
                yield Problem(
                    path, f"{part!r} is no {known[feature]}, which {feature!r} is", "compare it with a number"
                )


def _check_select(table: Mapping[str, Any], columns: Any, known: Mapping[str, Any]) -> Iterator[Problem]:
    chosen = dict(selected(table, columns))
    for entry in table["columns"]:
        path, found = f"{table['name']}.select.{entry['name']}", chosen.get(entry["name"], [])
        for column in found:
            if column not in known:
                yield Problem(path, f"{column} is none of this input's columns", closest(column, known))
        most = entry["most"]
        if len(found) < entry["least"] or (most and len(found) > most):
            count = f"exactly {most}" if most == entry["least"] else f"{entry['least']} or more"
            yield Problem(path, f"{len(found)} columns fit here", f"name {count}: {entry['description']}")


def _parties(entries: list[dict[str, Any]], values: Any) -> Iterator[tuple[str, PartyName]]:
    """Yield every party that an attribute names, with its path."""
    for path, value in flattened(entries, values):
        steps = path.split("/")
        found, inside = entries, None
        for step in steps:
            inside = next(e for e in found if e["name"] == step)
            found = inside.get("fields") or inside.get("options") or []
        if inside and inside["kind"] == "party":
            yield from ((".".join(steps), party) for party in value)


def _check_outputs(component: Component, task: TaskConfig, cluster: SFInitConfig) -> Iterator[Problem]:
    named = {"": task.outputs} | task.further_outputs
    if not component.kept:
        for party in task.outputs:
            yield Problem(f"outputs.{party}", "gets nothing from this component", "remove it: its report is the result")
    for index, kept in enumerate(component.kept):
        role = kept["name"] if index else ""
        field = f"further_outputs.{role}" if role else "outputs"
        if TABLE in _kinds(kept):
            continue
        # Each party has to keep its part, as a model without one of its parts is useless
        missing = [p for p in cluster.parties if p not in named.get(role, {})]
        if (named.get(role) or not role) and missing:
            for party in missing:
                yield Problem(
                    f"{field}.{party}", "is required", f"name what {party} keeps its part of {kept['name']} as"
                )
