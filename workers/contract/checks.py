"""Checks that a task type makes of the parties and columns that its documents name."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from workers.contract.catalogue import Catalogue
from workers.contract.documents import SFInitConfig, TaskConfig
from workers.contract.problems import Problem, closest


def check_columns(
    catalogue: Catalogue,
    task: TaskConfig,
    party: str,
    columns: list[str],
    path: str,
    types: frozenset[str] = frozenset(),
) -> Iterator[Problem]:
    """Check that each column exists in the party's dataset and, if ``types`` are given, has one of them."""
    for index, column in enumerate(columns):
        yield from check_column(catalogue, task, party, column, f"{path}.{index}", types)


def check_column(
    catalogue: Catalogue,
    task: TaskConfig,
    party: str,
    column: str,
    path: str,
    types: frozenset[str] = frozenset(),
    dataset: str | None = None,
) -> Iterator[Problem]:
    """Check that the column exists in the party's dataset and, if ``types`` are given, has one of them.

    ``dataset``: its name, if it is not the party's entry in ``data_sources``.
    """
    dataset = dataset or task.data_sources.get(party)
    known = (catalogue.datasets(party) or {}).get(dataset or "")
    if known is None:
        return
    if column not in known:
        wrong = f"{party}'s dataset {dataset} has no column {column!r}"
        yield Problem(path, wrong, closest(column, known), "name one that it has")
    elif types and known[column] not in types:
        yield Problem(path, f"column {column!r} is of type {known[column]}", f"should be {' or '.join(sorted(types))}")


def check_parties(named: Mapping[str, Any], cluster: SFInitConfig, path: str) -> Iterator[Problem]:
    """Check that every key of ``named`` is a party of the cluster."""
    for party in named:
        if party not in cluster.parties:
            yield not_a_party(f"{path}.{party}", cluster.parties)


def check_each_party(named: Container[str], cluster: SFInitConfig, path: str, remedy: str) -> Iterator[Problem]:
    """Check that every party of the cluster is in ``named``. ``remedy``: text in which ``{party}`` stands for a party
    that is missing."""
    for party in cluster.parties:
        if party not in named:
            yield Problem(f"{path}.{party}", "is required", remedy.format(party=party))


def not_a_party(path: str, parties: Sequence[str]) -> Problem:
    """Return the problem of a name that is not one of the cluster's parties."""
    return Problem(path, "is not a party of sf_init_config", f"should be one of {', '.join(parties)}")


def check_protocol(
    protocol: str,
    offered: Mapping[str, tuple[int, int | None]],
    parties: Sequence[str],
    path: str,
    but: str = "",
) -> Iterator[Problem]:
    """Check that the protocol suits the number of parties. ``offered``: by protocol, the fewest and the most parties.
    ``but``: a protocol that is never proposed.
    """

    def suits(name: str) -> bool:
        fewest, most = offered[name]
        return fewest <= len(parties) <= (most or len(parties))

    if not suits(protocol):
        fewest, most = offered[protocol]
        need = f"exactly {fewest}" if most == fewest else f"{fewest} or more"
        yield Problem(
            path,
            f"{protocol} needs {need} parties, the cluster has {len(parties)}",
            f"use {' or '.join(name for name in offered if suits(name) and name != but)}",
        )
