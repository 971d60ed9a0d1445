"""The plan of a pipeline: its nodes, what each waits for, and whether all of it can run.

A node waits for the nodes whose outputs its task reads, and for those that it names. Problems have paths that
begin with the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from workers.contract.catalogue import Columns
from workers.contract.documents import Document, TaskConfig
from workers.contract.problems import DocumentsInvalid, Problem, closest, problems_of
from workers.contract.validation import Run, parse_document, validate

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from controlplane.models import Dataset, Task
    from controlplane.models.catalogue import DatabaseCatalogue

NodeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
MOST_NODES = 100

#: Party and name of something that a task reads or keeps.
Thing = tuple[str, str]


class Node(Document):
    """A node of a pipeline, as an operator writes it."""

    task: str = Field(min_length=1, max_length=100, description="Name of the task that it runs.")
    after: list[NodeName] = Field(
        default_factory=list,
        max_length=MOST_NODES,
        description="Nodes that it waits for, beside those whose outputs its task reads.",
    )


class Nodes(Document):
    nodes: dict[NodeName, Node] = Field(
        min_length=1, max_length=MOST_NODES, description="Name to the node, such as train."
    )


@dataclass(slots=True)
class Step:
    """A node with its task, and the nodes that it waits for, each with the reason."""

    name: str
    task: Task
    waits_for: dict[str, str] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    config: TaskConfig | None = None
    #: Outputs of earlier executions that it reads and no node makes: this may be intended, or a name was changed.
    earlier: list[str] = field(default_factory=list)


class WithOutputs:
    """A catalogue that also holds the outputs of tasks that run before. Their columns are not known, even if an older
    output of the same name exists: it will be replaced."""

    def __init__(self, catalogue: DatabaseCatalogue, made: Mapping[tuple[str, str], str | None]) -> None:
        self._catalogue = catalogue
        #: Kind of each output by party and name, if it is known.
        self._made = made
        self.security = catalogue.security
        self.parties, self.public_keys = catalogue.parties, catalogue.public_keys
        self.address, self.kept_names = catalogue.address, catalogue.kept_names

    def datasets(self, party: str) -> Mapping[str, Columns | None] | None:
        there = self._catalogue.datasets(party)
        return None if there is None else dict(there) | {name: None for owner, name in self._made if owner == party}

    def kind(self, party: str, name: str) -> str | None:
        made = self._made
        return made[party, name] if (party, name) in made else self._catalogue.kind(party, name)


class Flow:
    """The nodes that are right, with the problems of the others, so that a wrong pipeline can be drawn, too."""

    def __init__(self, nodes: Any, tasks: QuerySet[Task], datasets: QuerySet[Dataset]) -> None:
        """Examine the nodes. ``tasks``: the tasks that a node may name. ``datasets``: all registered datasets, outputs
        of executions included."""
        self.problems: list[Problem] = []
        parsed, broken = self._parse(nodes)
        wanted = {node.task for node in parsed.values()}
        rows = tasks.filter(name__in=wanted).select_related("cluster", "spu", "heu")
        named = {task.name: task for task in rows}
        steps: dict[str, Step] = {}
        # sorted: no database but SQLite keeps the order of keys
        for name, node in sorted(parsed.items()):
            if task := named.get(node.task):
                steps[name] = self._step(name, task)
            else:
                known = tasks.order_by("name").values_list("name", flat=True)[:500]
                self.problems.append(
                    Problem(f"{name}.task", "there is no task of this name", closest(node.task, known))
                )
        makers = self._makers(steps)
        self._note_makers(steps, makers, datasets)
        for name, step in steps.items():
            for index, other in enumerate(parsed[name].after):
                if other == name:
                    self.problems.append(Problem(f"{name}.after.{index}", "is the node itself", "leave it out"))
                elif other in steps:
                    step.waits_for.setdefault(other, "is to come after it")
                elif other not in parsed and other not in broken:
                    at, others = f"{name}.after.{index}", [known for known in (*parsed, *broken) if known != name]
                    self.problems.append(Problem(at, "there is no node of this name", closest(other, others)))
        self.steps: list[Step] = self._in_order(steps)

    def _parse(self, nodes: Any) -> tuple[dict[str, Node], set[str]]:
        """Return the nodes whose structure is right, and the names of the others."""
        try:
            return Nodes.model_validate({"nodes": nodes}).nodes, set()
        except ValidationError as error:
            self.problems += [
                Problem(problem.path.removeprefix("nodes").removeprefix("."), problem.wrong, problem.right)
                for problem in problems_of(error, Nodes)
            ]
            broken = {str(entry["loc"][1]) for entry in error.errors(include_url=False) if len(entry["loc"]) > 1}
        rest = {name: node for name, node in nodes.items() if name not in broken} if isinstance(nodes, dict) else {}
        return {name: Node.model_validate(node) for name, node in [*rest.items()][:MOST_NODES]}, broken

    def _step(self, name: str, task: Task) -> Step:
        try:
            documents = task.documents()
        except DocumentsInvalid as error:
            self.problems += [problem.under(name) for problem in error.problems]
            documents = {}
        return Step(name, task, documents=documents, config=parse_document("task_config", task.document)[0])

    def _makers(self, steps: Mapping[str, Step]) -> dict[Thing, str]:
        """Return which node makes each output. Notes a problem where two nodes would overwrite the same output."""
        makers: dict[Thing, str] = {}
        for name, step in steps.items():
            for path, party, kept in step.config.keeps() if step.config else ():
                other = makers.setdefault((party, kept), name)
                if other != name:
                    at = f"{name}.task_config.{path}"
                    remedy = "have one of the two tasks keep it under another name"
                    self.problems.append(Problem(at, f"node {other} keeps {kept} at {party}, too", remedy))
        return makers

    @staticmethod
    def _note_makers(steps: Mapping[str, Step], makers: Mapping[Thing, str], datasets: QuerySet[Dataset]) -> None:
        """Note whose outputs each step reads: another node's, or those of an earlier execution."""
        outside: dict[str, set[Thing]] = {}
        for name, step in steps.items():
            made_by: dict[str, set[Thing]] = {}
            for _, party, read in step.config.reads() if step.config else ():
                made_by.setdefault(makers.get((party, read), ""), set()).add((party, read))
            outside[name] = made_by.pop("", set())
            made_by.pop(name, None)
            step.waits_for = {maker: f"reads {', '.join(_listed(things))}" for maker, things in made_by.items()}
        wanted = {read for things in outside.values() for _, read in things}
        if not wanted:
            return
        rows = datasets.filter(name__in=wanted).exclude(produced_by=None).values_list("party__name", "name")
        made = set(rows)
        for name, things in outside.items():
            steps[name].earlier = _listed(things & made)

    def _in_order(self, steps: dict[str, Step]) -> list[Step]:
        # no sets: their order differs from process to process
        graph = {name: sorted(step.waits_for) for name, step in steps.items()}
        while True:
            try:
                return [steps[name] for name in TopologicalSorter(graph).static_order()]
            except CycleError as error:
                # each one in the list waits for the one before it; the last is the first again
                cycle = error.args[1][:-1]
                start = cycle.index(min(cycle))
                cycle = [*cycle[start:], *cycle[:start], cycle[start]]
                links = [
                    f"{later} waits for {earlier} ({steps[later].waits_for[earlier]})"
                    for earlier, later in pairwise(cycle)
                ]
                wrong = f"waits for itself: {', '.join(links)}"
                self.problems.append(Problem(cycle[0], wrong, "take away one of these dependencies"))
                graph[cycle[1]].remove(cycle[0])

    def examined(self, catalogue: DatabaseCatalogue) -> list[Step]:
        """Return the steps, each after those that it waits for. ``catalogue``: what exists before the pipeline runs.
        Raises DocumentsInvalid with all problems.
        """
        self.check_documents(catalogue)
        if self.problems:
            raise DocumentsInvalid(self.problems)
        return self.steps

    def check_documents(self, catalogue: DatabaseCatalogue) -> None:
        """Return the problems of each node's documents, as if the nodes before it had run."""
        before: dict[str, dict[Thing, str | None]] = {}
        for step in self.steps:
            made: dict[Thing, str | None] = {}
            for other in step.waits_for:
                made |= before.get(other, {})
            before[step.name] = made | _kept(step.config, None)
            if not step.documents:
                continue
            try:
                run = validate(step.documents, WithOutputs(catalogue, made))
                before[step.name] |= _kept(run.task, run)
            except DocumentsInvalid as error:
                self.problems += [problem.under(step.name) for problem in error.problems]


def _listed(things: Iterable[Thing]) -> list[str]:
    """Return names as text, each with its parties."""
    parties: dict[str, list[str]] = {}
    for party, name in sorted(things):
        parties.setdefault(name, []).append(party)
    return [f"{name} of {' and '.join(owners)}" for name, owners in sorted(parties.items())]


def _kept(config: TaskConfig | None, run: Run | None) -> dict[Thing, str | None]:
    """Yield what a task keeps, each with its kind if it is known."""
    if config is None:
        return {}
    if run is None:
        return {(party, name): None for _, party, name in config.keeps()}
    roles = run.executor.roles(run.executor.parse_params(config.algorithm_params))
    kinds = {"outputs": roles.kept} | {f"further_outputs.{role}": found for role, found in roles.outputs.items()}
    found: dict[Thing, str | None] = {}
    for path, party, name in config.keeps():
        of = kinds.get(path.removesuffix(f".{party}"), frozenset())
        found[party, name] = next(iter(of)) if len(of) == 1 else None
    return found
