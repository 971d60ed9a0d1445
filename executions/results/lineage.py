"""What an execution was made from, what it made, who or what submitted it, and how its task has changed since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q

from controlplane.access import Access
from controlplane.documents.differences import Change, differences
from controlplane.models import Dataset
from controlplane.models.dataset import DIFFERS, UNREADABLE
from executions.models import Execution, Tick
from workers.contract.problems import DocumentsInvalid
from workers.contract.secrets import masked

#: Datasets and differences that the page names.
MOST_DATASETS, MOST_DIFFERENCES = 60, 50


@dataclass(slots=True)
class Table:
    """An input or output: its role in words (empty for the only one), its name, and the parties that have a part."""

    role: str
    name: str
    parties: list[str]
    #: Of each party its dataset, if it is registered and the user may see it.
    datasets: dict[str, Dataset | None] = field(default_factory=dict)
    #: Id of the execution that made them, if another one did.
    made_by: Any = None

    @property
    def rows(self) -> int | None:
        """Return the number of rows, if the parties report the same."""
        told = {dataset.reported_rows for dataset in self.datasets.values() if dataset}
        return told.pop() if len(told) == 1 else None


def inputs_and_outputs(execution: Execution, access: Access) -> tuple[list[Table], list[Table]]:
    """Return the inputs and the outputs of an execution, with their datasets. Reads the documents; takes one query."""
    task = execution.documents.get("task_config")
    task = task if isinstance(task, dict) else {}
    inputs = list(_tables(task, "data_sources", "further_sources"))
    outputs = list(_tables(task, "outputs", "further_outputs"))
    named = {(party, table.name) for table in [*inputs, *outputs] for party in table.parties}
    wanted = Q()
    for party, name in sorted(named)[:MOST_DATASETS]:
        wanted |= Q(party__name=party, name=name)
    rows = access.visible(Dataset.objects.filter(wanted)).select_related("party") if named else []
    found = {(dataset.party.name, dataset.name): dataset for dataset in rows}
    for table in [*inputs, *outputs]:
        table.datasets = {party: found.get((party, table.name)) for party in table.parties}
    for table in inputs:
        makers = {dataset.produced_by for dataset in table.datasets.values() if dataset and dataset.produced_by}
        table.made_by = makers.pop() if len(makers) == 1 and makers != {execution.pk} else None
    return inputs, outputs


def inputs_of(task: Any) -> set[tuple[str, str]]:
    """Return the inputs that a task's document names: each a party and the name of its dataset."""
    document = task if isinstance(task, dict) else {}
    return {
        (party, table.name) for table in _tables(document, "data_sources", "further_sources") for party in table.parties
    }


def not_as_registered(inputs: Iterable[tuple[str, str]], access: Access) -> dict[tuple[str, str], Dataset]:
    """Return those of the inputs that their party's host reported to be unlike what is registered, or unreadable. Takes
    one query."""
    wanted = set(inputs)
    if not wanted:
        return {}
    named = access.visible(Dataset.objects.filter(name__in={name for _, name in wanted}))
    rows = (Dataset.in_state(named, DIFFERS) | Dataset.in_state(named, UNREADABLE)).select_related("party")
    found = {(dataset.party.name, dataset.name): dataset for dataset in rows}
    return {key: dataset for key, dataset in found.items() if key in wanted}


def _tables(task: Mapping[str, Any], main: str, further: str) -> Iterator[Table]:
    roles = {"": task.get(main), **(task.get(further) or {})}
    for role, named in roles.items():
        by_name: dict[str, list[str]] = {}
        for party, name in named.items() if isinstance(named, dict) else ():
            by_name.setdefault(str(name), []).append(party)
        for name, parties in by_name.items():
            yield Table(role.replace("_", " "), name, parties)


def origin(execution: Execution) -> Any:
    """Return the schedule that submitted it, or its pipeline run; None if none did. Takes one query."""
    run = execution.node.run_id if execution.node else None
    of = Q(pipeline_run=run) if run else Q(execution=execution.pk)
    # In no order and without a limit: there is one at most, and to find a first one a database may go through all
    ticks = list(Tick.objects.filter(of).select_related("schedule").order_by())
    return ticks[0].schedule if ticks else None


def since(execution: Execution) -> list[Change] | None:
    """Return how the documents differ from those of the task as it is now, secrets masked; None without a task."""
    if execution.task is None:
        return None
    try:
        now = execution.task.documents()
    except DocumentsInvalid:
        return None
    return list(differences(masked(execution.documents), masked(now)))[:MOST_DIFFERENCES]
