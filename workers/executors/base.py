"""The base class of task types: what a task type has to provide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from workers.computing.context import Context
from workers.contract.catalogue import Catalogue
from workers.contract.documents import Document, SFInitConfig, TaskConfig
from workers.contract.problems import DocumentsInvalid, Problem, problems_of
from workers.contract.results import Figures
from workers.contract.roles import Place, Roles


class BaseTaskExecutor(ABC):
    """A task type. Importing its module must not import SecretFlow: the control plane validates with it too."""

    #: Title for people, in one line.
    title: ClassVar[str]
    #: The only key of ``algorithm_params``.
    params_key: ClassVar[str]
    #: Model of the parameters under that key.
    Params: ClassVar[type[Document]]
    #: Model of its result, which has no room for rows; see :mod:`workers.contract.results`.
    Result: ClassVar[type[BaseModel]] = Figures
    #: Devices the task cannot run without.
    devices: ClassVar[tuple[str, ...]] = ("spu",)
    #: Modules that a compute process imports before its first job.
    preload: ClassVar[tuple[str, ...]] = ()

    #: Whether the parties' tables have to hold the same rows in the same order; see ``lines_up``.
    aligned: ClassVar[bool] = False
    #: A ``task_config`` that runs with the demo's parties alice and bob.
    example: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, context: Context) -> None:
        self.context = context

    @classmethod
    def description(cls) -> str:
        """Return what it does, for people: the class's docstring without its markup."""
        return " ".join((cls.__doc__ or cls.title).replace("``", "").split())

    @classmethod
    def has_defaults(cls) -> bool:
        """Return whether ``algorithm_params`` may be empty: every parameter has a default, or there are none."""
        return not any(field.is_required() for field in cls.Params.model_fields.values())

    @classmethod
    def parse_params(cls, algorithm_params: Mapping[str, Any]) -> Any:
        """Return the typed parameters. Raises DocumentsInvalid with paths relative to ``algorithm_params``."""
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
        """Return logic problems, with paths relative to ``task_config``."""

    @classmethod
    def check_devices(
        cls, params: Any, task: TaskConfig, cluster: SFInitConfig, devices: Mapping[str, Any]
    ) -> Iterator[Problem]:
        """Yield logic problems between the task and its devices' documents, by short name; paths relative to
        ``task_config``.

        Called only if all devices that the task needs are on.
        """
        yield from ()

    @classmethod
    def needs(cls, params: Any) -> tuple[str, ...]:
        """Return the devices that it cannot run without, with these parameters."""
        return cls.devices

    @classmethod
    def lines_up(cls, params: Any, party: str) -> bool:
        """Return whether this party's table has to line up with those of other parties."""
        return cls.aligned

    @classmethod
    def matches_rows(cls, params: Any) -> bool:
        """Return whether it finds out which rows the parties have in common: its own tables may be of any size."""
        return False

    @classmethod
    def variants(cls) -> Mapping[str, str]:
        """Return the variants of a task type whose parameters have several shapes: names, each with a line for
        people."""
        return {}

    @classmethod
    def example_of(cls, variant: str) -> Mapping[str, Any]:
        """Return an example ``task_config`` of one variant; empty if it cannot run here."""
        return cls.example

    @classmethod
    def places(cls, variant: str) -> list[Place]:
        """Return its inputs and outputs, for people; for a task type without variants (``""``), those besides its
        tables."""
        found = cls.roles(None)
        fields = {"further_sources": found.sources, "further_outputs": found.outputs}
        return [
            Place(role, f"{field}.{role}", tuple(sorted(kinds)))
            for field, roles in fields.items()
            for role, kinds in roles.items()
        ]

    @classmethod
    def not_here(cls, variant: str) -> str:
        """Return why a variant cannot run; empty if it can."""
        return ""

    @classmethod
    def model_for(cls, given: Any) -> type[Document]:
        """Return the model that validates these parameters, which may be anything."""
        return cls.Params

    @classmethod
    def params_model(cls, variant: str) -> type[Document]:
        """Return the typed parameters of one variant."""
        return cls.Params

    @classmethod
    def roles(cls, params: Any) -> Roles:
        """Return what goes into ``further_sources`` and ``further_outputs``, and what ``data_sources`` may be."""
        return Roles()

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Any:
        """Return typed parameters, checked against this party's own table, before any peer is met.

        Raises ConfigError naming the dataset and column that is wrong.
        """
        return self.parse_params(algorithm_params)

    def adapted(self, algorithm_params: Any, devices: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the documents that the devices start with, by layer, changed if the task needs other settings.

        ``algorithm_params`` is what ``validate_params`` returned. Every party has to return the same.
        """
        return devices

    @classmethod
    def shapes_devices(cls, params: Any) -> Any:
        """Return the parameters that ``adapted`` depends on, as JSON: they are part of a session's key.

        By default that is none where ``adapted`` is not overridden, and otherwise all of them.
        """
        if cls.adapted is BaseTaskExecutor.adapted:
            return None
        return {cls.params_key: params.model_dump(mode="json")}

    @abstractmethod
    def execute_algorithm(self, algorithm_params: Any) -> dict[str, Any]:
        """Run on the live devices; ``algorithm_params`` is what ``validate_params`` returned.

        Returns JSON for ``result_metadata``, as ``Result`` says: counts and metrics, never rows.
        """
