"""Runs a component on our own devices, links and time limits, not on those of ``comp_eval``."""

from __future__ import annotations

import base64
import json
import re
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.components.arithmetic import compute_as_sql_says
from workers.components.categories import count_all_rows
from workers.components.definition import READ, REPORT, TABLES, Columns, Component
from workers.components.dialect import read_as_written
from workers.components.files import Kept, as_csv, link, packed
from workers.components.last_batch import learn_from_all_rows
from workers.components.lockdown import lock_down
from workers.components.newton import weigh_penalty_once
from workers.components.pairing import PSI, PairingSPU, keep_texts
from workers.components.reports import report
from workers.components.shares import EXP_MODES, SETTINGS, shares_of
from workers.components.significance import correct_significance
from workers.components.single_bin import fill_single_bins
from workers.computing.alignment import check_alignment
from workers.computing.context import Context
from workers.computing.telling import told_by
from workers.contract.catalogue import TABLE
from workers.contract.errors import AlgorithmError, ConfigError, chain_of
from workers.contract.wording import Quoted, Text
from workers.host.sources import Source
from workers.host.tables import column_types, count_rows

#: SecretFlow's name of each column type.
FIELD_TYPES = {"int": "int64", "float": "float64", "str": "str", "bool": "bool"}


def how_it_was_made(record: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Return how a model was made, as SecretFlow's export of models asks for it. ``model``: where it is now."""
    from google.protobuf import json_format

    outputs = [json_format.MessageToDict(model) if o["type"] == model.type else o for o in record["outputs"]]
    return {
        "input_datasets": [json.dumps(found) for found in record["param"]["inputs"]],
        "output_datasets": [json.dumps(found) for found in outputs],
        "component_eval_params": [base64.b64encode(json.dumps(record["param"]).encode()).decode()],
    }


#: Name of a column of zeros; see ``Runner.table``.
FILLER = "_filler"


class Runner:
    """Runs components one after the other, each of which can read the outputs of those before. All parties make the
    same calls in the same order."""

    def __init__(self, context: Context) -> None:
        self.context = context
        #: Directory of what components read and write.
        self.root = context.workdir / "components"
        self.root.mkdir(exist_ok=True)
        #: Parameters and outputs of the last component, JSON.
        self.record: dict[str, Any] = {}
        #: Name of the last table that this party has a part of.
        self._dataset = ""
        #: Types of this party's columns that are read as text.
        self._types: dict[str, str] = {}
        #: This party's columns of whole numbers.
        self._whole: set[str] = set()
        self._count = 0

    def table(
        self,
        name: str,
        columns: Columns,
        source: Source | None,
        *,
        of_two: bool = False,
        signs: bool = False,
        texts: Collection[str] = (),
    ) -> Any:
        """Return an input table (DistData) of some columns. Each party has its part in a CSV file (None: no part).
        Tells all parties the types of these columns, and checks that all have the same number of rows. ``of_two``: if
        only one party has columns, another one gets a ``FILLER``, for components that need columns of two parties.
        ``signs``: columns of numbers may have signs such as NA for a cell without one. ``texts``: columns that are read
        as they are written.
        """
        from secretflow_spec import VTable, VTableField, VTableFieldKind, VTableParty, VTableSchema

        context = self.context
        mine = columns.of(context.party)
        types: dict[str, str] = {}
        rows = 0
        if source is not None and mine:
            found = column_types(source.path, source.name)
            types = {column: "str" if column in texts else found[column] for column in mine}
            self._types |= {column: found[column] for column in mine if column in texts}
            self._whole |= {column for column, kind in types.items() if kind == "int"}
            rows = count_rows(source.path, source.name)
            self._dataset = source.name
            link(source, self.root / f"{name}.csv", [c for c, kind in types.items() if signs and kind != "str"])
        parties = [p for p in context.parties if p in columns.parties()]
        told = told_by(parties, types)
        if len(parties) > 1:
            check_alignment(context, rows, source.alignment if source else None, parties)
        made = []
        for party, known in told.items():
            fields = [
                VTableField(column, FIELD_TYPES[known[column]], VTableFieldKind[kind])
                for column, kind in columns.of(party).items()
            ]
            made.append(VTableParty(party, f"{name}.csv", "csv", [""], VTableSchema(fields)))
        if of_two and len(parties) == 1:
            other = next(p for p in context.parties if p not in parties)
            count = told_by(parties, rows)[parties[0]]
            if context.party == other:
                (self.root / f"{name}.csv").write_text("\n".join([FILLER, *["0.0"] * count, ""]))
            filler = VTableSchema([VTableField(FILLER, "float64", VTableFieldKind.FEATURE)])
            made.append(VTableParty(other, f"{name}.csv", "csv", [""], filler))
        return VTable(name, made).to_distdata()

    def model(self, role: str, kept: Kept | None) -> Any:
        """Return this party's input of that role as DistData. Raises ConfigError. Checks that all parties have parts of
        the same model.
        """
        from secretflow_spec.v1.data_pb2 import DistData

        context = self.context
        mine = kept.digest if kept else ""
        if len(set(told_by(context.parties, mine).values())) > 1:
            raise ConfigError(
                "the parties' {} are not parts of one model: name what one execution kept, at all parties", Text(role)
            )
        if kept is None:
            return DistData(type="sf.null")
        return kept.unpack(self.root, f"in_{role}")

    def keep(
        self,
        outputs: Mapping[str, Any],
        *,
        own: Mapping[str, Any] | None = None,
        task: Mapping[str, Any] | None = None,
        record: Mapping[str, Any] | None = None,
        alignment: str | None = None,
    ) -> None:
        """Keep the outputs that this party named. ``outputs``: DistData by role. Raises AlgorithmError.

        ``alignment``: that of tables with all rows of the input in its order; otherwise they get a new one. For a
        model: ``own`` is what only this party knows; ``task`` is what a later task needs, the same at all parties;
        ``record`` is how it was made, if not by the last component.
        """
        record = {**(record or self.record), **({"task": task} if task else {})}
        context = self.context
        if "spu" in context.documents:
            record["spu"] = shares_of(context.documents["spu"], context.parties)
        named = {"": context.task.outputs} | context.task.further_outputs
        parts = {(role, part.party): part for role, data in outputs.items() for part in data.data_refs}
        for role, data in outputs.items():
            for party in named.get(role, {}):
                # all parties find this, before any of them keeps an output
                if data.type in TABLES and (role, party) not in parts:
                    raise AlgorithmError(
                        "{} gets no part of {}; remove it from the task's outputs", party, Text(role or "the output")
                    )
        for role, data in outputs.items():
            if context.party not in named.get(role, {}):
                continue
            target = self.root / f"kept_{role or 'output'}"
            if data.type in TABLES:
                part = parts[role, context.party]
                types = as_csv(self.root / part.uri, target, part.format, self._whole)
                types |= {column: kind for column, kind in self._types.items() if column in types}
                order = alignment or context.new_alignment(role)
                context.keep_output(target, role, TABLE, alignment=order, types=types)
            else:
                packed(target, data, context.party, self.root, own or {}, record)
                context.keep_output(target, role, data.type)

    @staticmethod
    def reports(outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the reports among the outputs, for the execution's result."""
        from google.protobuf import json_format

        found = {name: report(data) for name, data in outputs.items() if data.type == REPORT}
        # A model or rule in the clear, which a component has read for people
        read = {name: json_format.MessageToDict(data.meta) for name, data in outputs.items() if data.type == READ}
        return ({"reports": found} if any(found.values()) else {}) | ({"read": read} if read else {})

    def run(
        self,
        component: Component,
        attributes: Mapping[str, Any],
        inputs: list[Any],
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> dict[str, Any]:
        """Run a component and return its outputs by name, as DistData. ``attributes``: values by path, including
        columns. Raises AlgorithmError."""
        from google.protobuf import json_format
        from secretflow.component.core import get_comp_list_def
        from secretflow_spec import Definition, Registry
        from secretflow_spec.core.utils import build_node_eval_param
        from secretflow_spec.v1.component_pb2 import Attribute

        get_comp_list_def()  # the import registers all components
        lock_down()
        read_as_written()
        learn_from_all_rows()
        keep_texts()
        fill_single_bins()
        weigh_penalty_once()
        correct_significance()
        compute_as_sql_says()
        count_all_rows()
        self._count += 1
        domain, _, name = component.id.partition("/")
        param = build_node_eval_param(
            domain,
            name,
            component.version,
            # the type of an empty list does not matter: an Attribute without one
            attrs={path: Attribute() if value == [] else value for path, value in attributes.items()},
            inputs=inputs,
            output_uris=[f"out{self._count}/{o['name']}" for o in component.outputs],
        )
        definition = Registry.get_definition_by_id(param.comp_id)
        running = definition.make_component(definition.parse_param(param))
        try:
            with all_calls_ended():
                running.evaluate(self._context(component, progress))
        except Exception as error:
            if words := own_words(error):
                raise AlgorithmError("{}: {}", Text(component.id), Quoted(words)) from error
            raise
        outputs = {}
        for entry in definition.get_output_defs(Definition.parse_minor(component.version)):
            outputs[entry.name] = getattr(running, entry.name).data
            if outputs[entry.name] is None:
                raise AlgorithmError("{} left no {}", Text(component.id), Text(entry.name))
        self.record = {
            "param": json_format.MessageToDict(param),
            "outputs": [json_format.MessageToDict(found) for found in outputs.values()],
        }
        return outputs

    def _context(self, component: Component, progress: Callable[[float], None]) -> Any:
        spu = self.context.devices.get("spu")
        if spu is not None and component.id in PSI:
            spu = PairingSPU(self.context, self._dataset)
        return component_context(self.context, self.root, progress, spu)


def component_context(context: Context, root: Path, progress: Callable[[float], None], spu: Any) -> Any:
    """Return the context that a component runs with: this run's devices, a private directory, and no checkpoints.
    ``spu``: the SPU or its wrapper; None if the run has none.
    """
    from secretflow.component.core import Context
    from secretflow.component.core.progressor import IProgressor
    from secretflow.component.core.types import TimeTracer
    from secretflow.device.device.heu import heu_from_base_config
    from secretflow.spec.extend.cluster_pb2 import SFClusterConfig, SFClusterDesc
    from secretflow_spec import make_storage
    from secretflow_spec.v1.data_pb2 import StorageConfig

    class Progress(IProgressor):
        def update(self, percent: float, infos: Any = None) -> None:
            progress(min(percent, 1.0))

        def done(self) -> None:
            pass

    class RunContext(Context):
        def __init__(self) -> None:
            self.cluster_config = SFClusterConfig(
                desc=SFClusterDesc(parties=context.parties),
                private_config=SFClusterConfig.PrivateConfig(self_party=context.party),
            )
            self._storage = make_storage(
                StorageConfig(type="local_fs", local_fs=StorageConfig.LocalFSConfig(wd=str(root)))
            )
            self._checkpoint = None
            self.data_dir = str(root)
            self.tracer = TimeTracer()
            self.initiator_party = None
            self._progressor = Progress()

        def make_spu(self, config: Any = None) -> Any:
            if spu is None:
                raise ConfigError("this component needs the SPU: set spu_config.enable_spu to true")
            runtime = context.documents["spu"].runtime_config
            for name, value in (config.update_config({}) if config else {}).items():
                if name in SETTINGS and getattr(runtime, name) != EXP_MODES.get(value, value):
                    raise AlgorithmError("the SPU was started with another {} than this component needs", Text(name))
            return spu

        def make_spus(self, config: Any = None) -> list[Any]:
            return [self.make_spu(config)]

        def make_heu(self, new_sk_keeper: str, new_evaluators: list[str], *more: Any, **options: Any) -> Any:
            document = context.documents.get("heu")
            if document is None:
                raise ConfigError("this component needs the HEU: set heu_config.enable_heu to true")
            parameters = document.he_parameters
            base = {
                "mode": document.mode,
                "schema": parameters.schema_,
                "key_size": parameters.key_pair.generate.bit_size,
            }
            return heu_from_base_config(base, new_sk_keeper, new_evaluators, *more, **options)

        def make_heus(self, parties: list[str], *more: Any, **options: Any) -> dict[str, Any]:
            return {p: self.make_heu(p, [other for other in parties if other != p], *more, **options) for p in parties}

    return RunContext()


@contextmanager
def all_calls_ended() -> Iterator[None]:
    """Wait on leaving until this party's calls have ended: some components do not wait for their own writes."""
    from secretflow.distributed.fed.global_context import get_global_context

    calls: list[Future[Any]] = []
    fed = get_global_context()
    submit = fed.submit_task

    def remembering(*args: Any, **kwargs: Any) -> Future[Any]:
        calls.append(submit(*args, **kwargs))
        return calls[-1]

    fed.submit_task = remembering
    try:
        yield
        for call in calls:
            call.result()
    finally:
        del fed.submit_task


def own_words(error: BaseException) -> str:
    """Return the text with which SecretFlow's own Python code refused something; empty for any other error, here or at
    a peer. Texts of other code, and of C++, may quote rows.
    """
    for cause in chain_of(error):
        frames = traceback.extract_tb(cause.__traceback__)
        if type(cause).__name__ == "FedRemoteError":
            return ""
        if type(cause).__module__.startswith("sqlglot"):  # it parses the task's documents, and sees no rows
            return re.sub(r"\x1b\[\d*m", "", " ".join(str(cause).split()))[:300]
        if not frames or "/secretflow" not in frames[-1].filename:
            continue
        line = frames[-1].line or ""
        if line.startswith(("raise", "assert")):
            said = getattr(cause, "message", cause)
            if said is cause and isinstance(cause.args[0] if cause.args else None, tuple):
                said = " ".join(map(str, cause.args[0]))  # an assertion with two texts
            words = " ".join(str(said).split())
            return re.sub(r"/[\w./-]+/", "", words)[:300] or f"its check failed: {line}"
    return ""
