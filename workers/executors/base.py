"""What a task type has to provide, and what it is given to work with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import ValidationError

from workers.documents import Document, SFInitConfig, TaskConfig
from workers.problems import DocumentsInvalid, Problem, closest, problems_of

#: Column name to type: ``int``, ``float``, ``str`` or ``bool``.
Columns = Mapping[str, str]
#: How strict the checks of security are; ``trial`` is for trying things out with data that is no secret.
Security = Literal["production", "trial"]


class Catalogue(Protocol):
    """What is known here of parties: everything registered on the control plane, its own on a party host."""

    @property
    def security(self) -> Security:
        """The tier that holds here."""

    def address(self, party: str) -> str | None:
        """Host at which the other parties reach it; None where that is not known."""

    def datasets(self, party: str) -> Mapping[str, Columns | None] | None:
        """The party's datasets, each with its columns (None: not known); None where nothing is known."""

    def kept_names(self, party: str) -> set[str]:
        """Names of the party's datasets that an output may not replace."""


@dataclass(slots=True)
class Session:
    """One run as its executor sees it."""

    party: str
    parties: list[str]
    task: TaskConfig
    #: This party's input table.
    input_path: Path
    #: Private directory, removed when the run ends.
    workdir: Path
    #: Reports progress, 0 to 1.
    progress: Callable[[float], None] = lambda fraction: None
    #: Keeps a finished file as this party's output.
    keep_output: Callable[[Path], None] = lambda path: None
    #: The execution whose output the input is, if it is one: rows of one execution's outputs line up.
    input_origin: str | None = None
    #: Live devices by name, such as ``spu``.
    devices: dict[str, Any] = field(default_factory=dict)


class BaseTaskExecutor(ABC):
    """A task type. Importing its module must not import SecretFlow: the control plane validates with it too."""

    #: One line for people.
    title: ClassVar[str]
    #: The one key of ``algorithm_params``.
    params_key: ClassVar[str]
    #: Typed parameters under that key.
    Params: ClassVar[type[Document]]
    #: Devices the task cannot run without.
    devices: ClassVar[tuple[str, ...]] = ("spu",)
    #: Modules a standby process imports ahead of its first job.
    preload: ClassVar[tuple[str, ...]] = ()

    #: A ``task_config`` that runs with the demo's parties alice and bob.
    example: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, session: Session) -> None:
        self.session = session

    @classmethod
    def description(cls) -> str:
        """What it does, for people: the class's docstring."""
        return " ".join((cls.__doc__ or cls.title).split())

    @classmethod
    def parse_params(cls, algorithm_params: Mapping[str, Any]) -> Any:
        """The typed parameters. Raises DocumentsInvalid with paths relative to ``algorithm_params``."""
        problems = [
            Problem(key, "unknown key", f"this task type takes {cls.params_key} alone")
            for key in algorithm_params
            if key != cls.params_key
        ]
        if cls.params_key not in algorithm_params:
            problems.append(Problem(cls.params_key, "is required", "add it"))
            raise DocumentsInvalid(problems)
        try:
            params = cls.Params.model_validate(algorithm_params[cls.params_key])
        except ValidationError as error:
            problems += [p.under(cls.params_key) for p in problems_of(error, cls.Params)]
        if problems:
            raise DocumentsInvalid(problems)
        return params

    @classmethod
    @abstractmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        """Logic problems, with paths relative to ``task_config``."""

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Any:
        """Typed parameters, checked against this party's own table, before any peer is met.

        Raises ConfigError naming the dataset and column that is wrong.
        """
        return self.parse_params(algorithm_params)

    @abstractmethod
    def execute_algorithm(self, algorithm_params: Any) -> dict[str, Any]:
        """Run on the live devices; ``algorithm_params`` is what ``validate_params`` returned.

        Returns JSON for ``result_metadata``: counts and metrics, never rows.
        """


def check_columns(
    catalogue: Catalogue,
    task: TaskConfig,
    party: str,
    columns: list[str],
    path: str,
    types: frozenset[str] = frozenset(),
) -> Iterator[Problem]:
    """Each column exists in the party's dataset and, if ``types`` are given, has one of them."""
    dataset = task.data_sources.get(party)
    known = (catalogue.datasets(party) or {}).get(dataset or "")
    if known is None:
        return
    for index, column in enumerate(columns):
        where = f"{path}.{index}"
        if column not in known:
            yield Problem(where, f"{party}'s dataset {dataset} has no column {column!r}", closest(column, known))
        elif types and known[column] not in types:
            yield Problem(
                where, f"column {column!r} is of type {known[column]}", f"should be {' or '.join(sorted(types))}"
            )


def check_parties(named: Mapping[str, Any], cluster: SFInitConfig, path: str) -> Iterator[Problem]:
    """Every key of ``named`` is a party of the cluster."""
    for party in named:
        if party not in cluster.parties:
            yield Problem(
                f"{path}.{party}", "is not a party of sf_init_config", f"should be one of {', '.join(cluster.parties)}"
            )
