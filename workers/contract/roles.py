"""Inputs and outputs of a task, by party and name: the checks that apply to every task type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from workers.contract.catalogue import TABLE, Catalogue
from workers.contract.checks import check_each_party, check_parties
from workers.contract.documents import SFInitConfig, TaskConfig
from workers.contract.problems import Problem, closest


@dataclass(frozen=True, slots=True)
class Roles:
    """Roles of a task type's further inputs and outputs, each with the kinds that are allowed there."""

    sources: Mapping[str, frozenset[str]] = field(default_factory=dict)
    outputs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: Kinds that ``data_sources`` may be of.
    main: frozenset[str] = frozenset({TABLE})
    #: Kinds that ``outputs`` may be of.
    kept: frozenset[str] = frozenset({TABLE})
    #: Whether each party has to be in ``data_sources``.
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """An input or output of a task type, described for people."""

    #: Name that the task type gives it.
    name: str
    #: Path in the task's document, such as ``further_sources.model``, or where else it is.
    where: str
    #: Allowed kinds, as in ``Roles``.
    kinds: tuple[str, ...]
    help: str = ""


def check_names(task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
    """Check that all parties are in the cluster, that inputs exist, and that each output has its own name."""
    yield from check_parties(task.data_sources, cluster, "data_sources")
    yield from check_parties(task.outputs, cluster, "outputs")
    for role, named in task.further_sources.items():
        yield from check_parties(named, cluster, f"further_sources.{role}")
    for role, named in task.further_outputs.items():
        yield from check_parties(named, cluster, f"further_outputs.{role}")
    for path, party, name in task.reads():
        known = catalogue.datasets(party)
        if known is not None and name not in known:
            remedy = f"name one that {party} has, or register it there"
            yield Problem(path, f"{party} has no dataset {name!r} registered", closest(name, known), remedy)
    taken: dict[tuple[str, str], str] = {}
    for path, party, name in task.keeps():
        if name in catalogue.kept_names(party):
            yield Problem(path, f"{name} is a dataset that {party} registered", "choose another")
        if other := taken.get((party, name)):
            yield Problem(path, f"is the name of {other}, too", "choose another")
        taken[party, name] = path


def check_roles(task: TaskConfig, cluster: SFInitConfig, roles: Roles, catalogue: Catalogue) -> Iterator[Problem]:
    """Check that the task type knows the role of each further input and output, and can read the kinds of the
    inputs."""
    if roles.is_required:
        yield from check_each_party(task.data_sources, cluster, "data_sources", "name a dataset of {party}")
    for key, given, offered in (
        ("further_sources", task.further_sources, roles.sources),
        ("further_outputs", task.further_outputs, roles.outputs),
    ):
        for role in given:
            if role not in offered:
                remedy = f"this task type has {', '.join(offered)} there" if offered else "remove it"
                yield Problem(f"{key}.{role}", "is nothing that this task type knows", remedy)
    yield from _kinds("data_sources", task.data_sources.items(), roles.main, catalogue)
    yield from _replaced("outputs", task.outputs.items(), roles.kept, catalogue)
    for role, named in task.further_outputs.items():
        if role in roles.outputs:
            yield from _replaced(f"further_outputs.{role}", named.items(), roles.outputs[role], catalogue)
    for role, named in task.further_sources.items():
        if role in roles.sources:
            yield from _kinds(f"further_sources.{role}", named.items(), roles.sources[role], catalogue)


def _kinds(
    path: str, named: Iterable[tuple[str, str]], kinds: frozenset[str], catalogue: Catalogue
) -> Iterator[Problem]:
    for party, name in named:
        kind = catalogue.kind(party, name)
        if kind is not None and kind not in kinds:
            remedy = f"should be a {' or '.join(sorted(kinds))}" if kinds else "nothing is read here; remove it"
            yield Problem(f"{path}.{party}", f"{name} is a {kind}", remedy)


def _replaced(
    path: str, named: Iterable[tuple[str, str]], kinds: frozenset[str], catalogue: Catalogue
) -> Iterator[Problem]:
    """Check that an output replaces only an earlier output of the same kind: a table a table, a model a model."""
    for party, name in named:
        kind = catalogue.kind(party, name)
        if kind is not None and kinds and (kind == TABLE) != (TABLE in kinds):
            yield Problem(
                f"{path}.{party}", f"would replace {name}, a {kind}, by something else", "choose another name"
            )
