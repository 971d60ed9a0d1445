"""What a task type has to provide, and what it is given to work with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import ValidationError

from workers.documents import Document, SFInitConfig, TaskConfig
from workers.errors import ConfigError
from workers.executors.alignment import DECLARED, misaligned
from workers.executors.telling import told_by
from workers.problems import DocumentsInvalid, Problem, closest, problems_of

#: Column name to type: ``int``, ``float``, ``str`` or ``bool``.
Columns = Mapping[str, str]
NUMERIC = frozenset({"int", "float", "bool"})
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

    def kind(self, party: str, name: str) -> str | None:
        """What the party has under that name: a TABLE, or such as sf.model.sgb; None where that is not known."""


#: Kind of what is kept as CSV with a header line. Models and rules have SecretFlow's type names.
TABLE = "table"


@dataclass(frozen=True, slots=True)
class Source:
    """Something that this party has: a table of party.toml, or what an earlier execution kept."""

    name: str
    path: Path
    kind: str = TABLE
    #: Who lined its rows up, in which order: tables of the same alignment have the same rows, line by line. None where
    #: nobody knows.
    alignment: str | None = None
    #: Column to type where that is declared, or known from what the table was made of. See ``workers.sources``.
    types: Mapping[str, str] = field(default_factory=dict)
    #: The same of columns for which the control plane says it, and this host nothing.
    registered_types: Mapping[str, str] = field(default_factory=dict)
    #: Of the file, where it is no CSV in UTF-8 with commas: executors never see such a one.
    encoding: str | None = None
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class Slots:
    """What a task reads and keeps beyond its tables and its outputs: role to the kinds that go there."""

    sources: Mapping[str, frozenset[str]] = field(default_factory=dict)
    outputs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: Kinds that ``data_sources`` may be of.
    main: frozenset[str] = frozenset({TABLE})
    #: Kinds that ``outputs`` may be of.
    kept: frozenset[str] = frozenset({TABLE})
    #: Each party has to be in ``data_sources``.
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """One thing that a task reads or keeps, for people."""

    #: The task type's own name of it.
    name: str
    #: Such as ``further_sources.model``, or where else it is to be found.
    where: str
    #: As ``Slots`` has them.
    kinds: tuple[str, ...]
    help: str = ""


class KeepOutput(Protocol):
    def __call__(
        self,
        path: Path,
        role: str = "",
        kind: str = TABLE,
        *,
        alignment: str | None = None,
        types: Mapping[str, str] | None = None,
    ) -> None: ...


@dataclass(slots=True)
class Session:
    """One run as its executor sees it."""

    party: str
    parties: list[str]
    task: TaskConfig
    #: All that this party reads, by role; "" is its entry in data_sources.
    sources: Mapping[str, Source]
    #: Private directory, removed when the run ends.
    workdir: Path
    #: Reports progress, 0 to 1. To be called equally often at all parties: it collects garbage now and then.
    progress: Callable[[float], None] = lambda fraction: None
    #: Keeps a finished file as this party's output: of this role ("" is its entry in outputs), of this kind. Of a
    #: table, the alignment of its rows: that of what it was made of, or a new one; and the types of its columns, where
    #: its maker knows them better than the file and this party's tables show them.
    keep_output: KeepOutput = lambda path, role="", kind=TABLE, *, alignment=None, types=None: None
    #: The run, by a name that all parties know it by.
    run_name: str = ""
    #: Live devices by name, such as ``spu``.
    devices: dict[str, Any] = field(default_factory=dict)
    #: Their documents.
    documents: dict[str, Any] = field(default_factory=dict)
    #: What people should know who read the result.
    warnings: list[str] = field(default_factory=list)

    def new_alignment(self, role: str = "") -> str:
        """Return the alignment of tables that this run puts in an order of its own, the same at all parties."""
        return f"{self.run_name}/{role}" if role else self.run_name

    @property
    def source(self) -> Source:
        """This party's entry in ``data_sources``."""
        return self.sources[""]

    def source_of(self, role: str) -> Source | None:
        """What this party reads in this role: of ``further_sources``, otherwise of ``data_sources``, if it is there."""
        return self.sources.get(role) or self.sources.get("")

    @property
    def input_path(self) -> Path:
        """This party's input table."""
        return self.source.path


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

    #: The parties' tables have to hold the same rows in the same order; see ``lines_up``.
    aligned: ClassVar[bool] = False
    #: A ``task_config`` that runs with the demo's parties alice and bob.
    example: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, session: Session) -> None:
        self.session = session

    @classmethod
    def description(cls) -> str:
        """What it does, for people: the class's docstring, without its marks of code."""
        return " ".join((cls.__doc__ or cls.title).replace("``", "").split())

    @classmethod
    def has_defaults(cls) -> bool:
        """Return whether ``algorithm_params`` may be empty, as there is a default for each parameter, or none."""
        return not any(field.is_required() for field in cls.Params.model_fields.values())

    @classmethod
    def parse_params(cls, algorithm_params: Mapping[str, Any]) -> Any:
        """The typed parameters. Raises DocumentsInvalid with paths relative to ``algorithm_params``."""
        problems = [
            Problem(key, "unknown key", f"this task type takes {cls.params_key} alone")
            for key in algorithm_params
            if key != cls.params_key
        ]
        if cls.params_key not in algorithm_params and not cls.has_defaults():
            problems.append(Problem(cls.params_key, "is required", "add it"))
            raise DocumentsInvalid(problems)
        given = algorithm_params.get(cls.params_key, {})
        model = cls.model_for(given)
        try:
            params = model.model_validate(given)
        except ValidationError as error:
            problems += [p.under(cls.params_key) for p in problems_of(error, model)]
        if problems:
            raise DocumentsInvalid(problems)
        return params

    @classmethod
    @abstractmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        """Logic problems, with paths relative to ``task_config``."""

    @classmethod
    def check_devices(
        cls, params: Any, task: TaskConfig, cluster: SFInitConfig, devices: Mapping[str, Any]
    ) -> Iterator[Problem]:
        """Logic problems between the task and its devices' documents, by short name; paths relative to ``task_config``.

        Asked only where all devices that the task needs are on.
        """
        yield from ()

    @classmethod
    def needs(cls, params: Any) -> tuple[str, ...]:
        """The devices that it cannot run without, with these parameters."""
        return cls.devices

    @classmethod
    def lines_up(cls, params: Any, party: str) -> bool:
        """Return whether this party's table has to line up with those of the other parties that have to."""
        return cls.aligned

    @classmethod
    def variants(cls) -> Mapping[str, str]:
        """Where one task type has parameters of several shapes: their names, each with a line for people."""
        return {}

    @classmethod
    def example_of(cls, variant: str) -> Mapping[str, Any]:
        """A ``task_config`` of one variant, as ``example``; empty where it cannot run here."""
        return cls.example

    @classmethod
    def places(cls, variant: str) -> list[Place]:
        """What it reads and keeps, for people; of a task type without variants (``""``) what is beyond its tables."""
        slots = cls.slots(None)
        fields = {"further_sources": slots.sources, "further_outputs": slots.outputs}
        return [
            Place(role, f"{field}.{role}", tuple(sorted(kinds)))
            for field, roles in fields.items()
            for role, kinds in roles.items()
        ]

    @classmethod
    def not_here(cls, variant: str) -> str:
        """Why a variant cannot run; empty where it can."""
        return ""

    @classmethod
    def model_for(cls, given: Any) -> type[Document]:
        """The model by which these parameters are judged, whatever they are."""
        return cls.Params

    @classmethod
    def params_model(cls, variant: str) -> type[Document]:
        """The typed parameters of one variant."""
        return cls.Params

    @classmethod
    def slots(cls, params: Any) -> Slots:
        """What goes into ``further_sources`` and ``further_outputs``, and what ``data_sources`` may be."""
        return Slots()

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Any:
        """Typed parameters, checked against this party's own table, before any peer is met.

        Raises ConfigError naming the dataset and column that is wrong.
        """
        return self.parse_params(algorithm_params)

    def adapted(self, algorithm_params: Any, devices: Mapping[str, Any]) -> Mapping[str, Any]:
        """The documents that the devices are started with, by layer, where the task needs other settings than theirs.

        ``algorithm_params`` is what ``validate_params`` returned. Every party has to come to the same.
        """
        return devices

    @classmethod
    def shapes_devices(cls, params: Any) -> Any:
        """What of the typed parameters ``adapted`` goes by, as JSON: runs that differ in it share no devices.

        Where it goes by anything, that is all of them unless the executor says less.
        """
        if cls.adapted is BaseTaskExecutor.adapted:
            return None
        return {cls.params_key: params.model_dump(mode="json")}

    @abstractmethod
    def execute_algorithm(self, algorithm_params: Any) -> dict[str, Any]:
        """Run on the live devices; ``algorithm_params`` is what ``validate_params`` returned.

        Returns JSON for ``result_metadata``: counts and metrics, never rows.
        """


def check_alignment(session: Session, rows: int, alignment: str | None, parties: Sequence[str] | None = None) -> None:
    """Reveal to all parties how many rows each has, and who lined them up. Raises ConfigError unless they line up.

    ``rows`` and ``alignment``: of this party's table. ``parties``: those that have rows, if not all.
    """
    parties = parties or session.parties
    told = told_by(parties, (rows, alignment))
    alignments = {party: found for party, (_, found) in told.items()}
    if problem := misaligned(alignments, {party: count for party, (count, _) in told.items()}):
        raise ConfigError(problem)
    [common] = set(alignments.values())
    if str(common).startswith(DECLARED):
        session.warnings.append(
            f"The rows of {' and '.join(parties)} were taken to line up because each declares the alignment "
            f"{str(common).removeprefix(DECLARED)!r} in its party.toml; nothing else vouches for it."
        )


def check_columns(
    catalogue: Catalogue,
    task: TaskConfig,
    party: str,
    columns: list[str],
    path: str,
    types: frozenset[str] = frozenset(),
) -> Iterator[Problem]:
    """Each column exists in the party's dataset and, if ``types`` are given, has one of them."""
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
    """The column exists in the party's dataset and, if ``types`` are given, has one of them.

    ``dataset``: its name, if it is not the party's entry in ``data_sources``.
    """
    dataset = dataset or task.data_sources.get(party)
    known = (catalogue.datasets(party) or {}).get(dataset or "")
    if known is None:
        return
    if column not in known:
        yield Problem(path, f"{party}'s dataset {dataset} has no column {column!r}", closest(column, known))
    elif types and known[column] not in types:
        yield Problem(path, f"column {column!r} is of type {known[column]}", f"should be {' or '.join(sorted(types))}")


def check_parties(named: Mapping[str, Any], cluster: SFInitConfig, path: str) -> Iterator[Problem]:
    """Every key of ``named`` is a party of the cluster."""
    for party in named:
        if party not in cluster.parties:
            yield not_a_party(f"{path}.{party}", cluster.parties)


def check_each_party(named: Container[str], cluster: SFInitConfig, path: str, remedy: str) -> Iterator[Problem]:
    """Every party of the cluster is in ``named``. ``remedy``: with ``{party}`` for the one that is not."""
    for party in cluster.parties:
        if party not in named:
            yield Problem(f"{path}.{party}", "is required", remedy.format(party=party))


def not_a_party(path: str, parties: Sequence[str]) -> Problem:
    """Of a name that is none of the cluster's parties."""
    return Problem(path, "is not a party of sf_init_config", f"should be one of {', '.join(parties)}")
