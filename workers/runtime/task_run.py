"""The run of one task at one party."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from workers.components.shares import replaced
from workers.computing.context import Context, LeastRows
from workers.computing.minimum import check_tables
from workers.contract.catalogue import TABLE
from workers.contract.connection import DEFAULT_URL, connect
from workers.contract.errors import ConfigError, NetworkError, SecretFlowTaskError, classify, contract_name
from workers.contract.events import FAILURE, RUNNING, SUCCESS
from workers.contract.registry import DEVICE_REGISTRY
from workers.contract.results import check_result
from workers.contract.run_name import RunName
from workers.contract.validation import Run, validate
from workers.contract.wording import Text
from workers.devices.base import Device, stop_all
from workers.host.approvals import digest_of
from workers.host.gate import Gate
from workers.host.key import with_secrets_opened
from workers.host.party import PartyHost
from workers.host.sources import Source, readable, types_of_output
from workers.host.stream import Stream
from workers.host.tables import column_types
from workers.host.workdirs import remove_traces
from workers.runtime.cluster import Cluster
from workers.runtime.limits import limited
from workers.runtime.meeting import check_ports
from workers.runtime.publisher import Publisher
from workers.runtime.session import MOST_RUNS, LiveSession, key_of, settings_of, settle_down
from workers.runtime.told_lines import mark_failure, tell_by

log = logging.getLogger(__name__)

#: More events than a process sends before its links are up.
EVENTS_OF_A_TRY = 1000


@dataclass(slots=True)
class Runtime:
    """What a process brings to every run: who it is, and where events go."""

    host: PartyHost
    stream: Stream
    worker: str
    #: The process's own private directory, if its sessions may outlive a run.
    directory: Path | None = None
    #: What the last run left up.
    session: LiveSession | None = None
    #: Whether the process ends after a run that leaves no session.
    ends: bool = False
    #: The links of its last run may still owe answers until then, by the monotonic clock; it ends no earlier.
    stays_until: float = 0.0
    #: Earlier processes to which this job was given, and whose links hung.
    tries: int = 0

    @classmethod
    def from_environment(cls) -> Runtime:
        """Return the runtime of a process that was started by hand."""
        host = PartyHost.load(os.environ.get("PARTY_TOML", "party.toml"))
        connection = connect(os.environ.get("REDIS_URL", DEFAULT_URL))
        return cls(host, Stream(connection, host.name, host.signer), f"{os.uname().nodename}-{os.getpid()}")


#: Set by the compute process before its job comes.
runtime: Runtime | None = None


def execute_secretflow_task(
    task_request_id: str,
    sf_init_config: dict[str, Any],
    spu_config: dict[str, Any],
    heu_config: dict[str, Any],
    task_config: dict[str, Any],
    **device_configs: dict[str, Any],
) -> dict[str, Any]:
    """Run one task at this party, together with its peers, and report every step.

    ``device_configs`` are the layers of further devices, such as ``teeu_config``. Returns ``status``,
    ``execution_time`` in seconds, ``output_paths`` (names of this party's outputs) and
    ``result_metadata`` (JSON, no rows). Never raises for a task that failed. After a failure the process
    is spent: SecretFlow leaves threads behind that only ``os._exit`` ends.
    """
    documents = {
        "sf_init_config": sf_init_config,
        "spu_config": spu_config,
        "heu_config": heu_config,
        "task_config": task_config,
    } | device_configs
    return TaskRun(runtime or Runtime.from_environment(), task_request_id, documents).execute()


def accept(host: PartyHost, documents: dict[str, Any]) -> Run:
    """Return the typed run, as this host takes part in it. Raises ConfigError where it does not: a party trusts
    nobody."""
    sent = validate(documents, host)
    cluster = sent.cluster
    if cluster.self_party != host.name:
        raise ConfigError(
            "the documents are for {}, this host is {}", cluster.self_party or Text("no party"), host.name
        )
    if not cluster.cluster:
        raise ConfigError("sf_init_config.cluster is empty; it is filled in at dispatch")
    opened = with_secrets_opened(host.localized(documents, sent), host.key_path, cluster.job_name or "")
    run = validate(opened, host)
    host.check(run)
    return run


def sources_of(host: PartyHost, run: Run) -> dict[str, Source]:
    """Return all that this party reads, by role, as its host has it. Raises ConfigError."""
    named = {"": run.task.data_sources} | run.task.further_sources
    return {role: host.dataset(names[host.name]) for role, names in named.items() if host.name in names}


def context_of(host: PartyHost, run: Run, workdir: Path) -> Context:
    """Return what an executor needs to look at its parameters and its data; to compute it needs more. Raises
    ConfigError.

    ``workdir``: a private directory that exists; tables are converted into it where they have to be.
    """
    sources = readable(sources_of(host, run), workdir, run.task.column_types)
    least = LeastRows(host.policy.min_intersection_rows, host.policy.min_group_rows)
    if not run.executor.matches_rows(run.executor.parse_params(run.task.algorithm_params)):
        check_tables(least, sources.values())
    return Context(host.name, run.cluster.parties, run.task, sources, workdir, least_rows=least)


class TaskRun:
    #: How long a failed party stays, so that its error reaches the peers before its links break.
    LINGER_SECONDS = 1.0
    #: How many reports of progress there are between two collections of garbage.
    COLLECT_EVERY = 10

    def __init__(self, runtime: Runtime, execution: str, documents: dict[str, Any]) -> None:
        self.runtime, self.host = runtime, runtime.host
        #: Up from earlier runs; this one gives it back if it goes well.
        self.live, runtime.session = runtime.session, None
        self.name = RunName.of(execution, documents)
        self.job_name = str(self.name)
        self.documents = documents
        self.gate = Gate(self.host, documents)
        self.workdir = self.host.workdirs.of_run(self.name)
        self.workdir_lock: IO[str] | None = None
        self.publisher = Publisher(
            runtime.stream,
            run=self.name,
            worker=runtime.worker,
            task_type=_task_type(documents),
            journal_dir=self.host.journal_dir,
            # After all that an earlier process said, which came no further than to its links
            first_sequence=1 + runtime.tries * EVENTS_OF_A_TRY,
            tell=lambda data: self.gate.scrubbed(data),
        )
        self.devices: dict[str, Device] = {}
        self.started_at = time.time()
        self.progress_reports = 0
        self.cluster: Cluster | None = None
        self.cluster_is_up = False
        self.kept: dict[str, dict[str, Any]] = {}

    def execute(self) -> dict[str, Any]:
        started = time.monotonic()
        metadata: dict[str, Any] = {}
        failure: SecretFlowTaskError | None = None
        status = FAILURE
        try:
            self._stage("task_started")
            self.host = self.host.reload()  # what the operator changed since this process began holds at once
            self.gate = Gate(self.host, self.documents)
            self._tell_log()
            self.host.prepare_directories()
            with limited(self.host.limits, self.workdir):
                metadata = self._run()
            # First, as it refuses a result that is too large to report
            self.publisher.publish(SUCCESS, "task_execution", result=metadata, computation_progress=1.0)
            status = SUCCESS
        except BaseException as error:
            failure = classify(error)
            log.error("%s failed in stage %s", self.job_name, Text(self.publisher.stage), exc_info=error)
            mark_failure()
            self.publisher.publish(
                FAILURE,
                self.publisher.stage or "task_started",
                error=self.gate.error(failure),
                error_type=contract_name(failure),
                caused_by_peer=failure.caused_by_peer or None,
                problems=self.gate.problems(failure),
            )
            metadata = {"error": self.gate.error(failure), "error_type": contract_name(failure)}
        finally:
            self._clean_up(failure)
            self.publisher.publish(status, "cleanup")
        return {
            "status": status.lower(),
            "execution_time": round(time.monotonic() - started, 3),
            "output_paths": list(self.kept) if status == SUCCESS else [],
            "result_metadata": metadata,
        }

    def _run(self) -> dict[str, Any]:
        run = accept(self.host, self.documents)
        self.cluster = cluster = Cluster(self.host, run)
        if approvals := self.host.approvals:  # before anything is read, and whatever the control plane says of it
            approvals.take(digest_of(self.host.name, run), self.name.execution)
        context = self._context(run)
        executor = run.executor(context)
        params = executor.validate_params(run.task.algorithm_params)
        documents = executor.adapted(params, run.devices)
        context.warnings += replaced(run.devices, documents)
        if self.live:
            self._reuse(run, documents, self.live)
        else:
            self._build(cluster, run, documents)
        for layer, document in documents.items():
            name = DEVICE_REGISTRY[layer].name
            context.devices[name], context.documents[name] = self.devices[name].device, document
        self._stage("devices_ready", devices_initialized=list(self.devices))

        self._stage("task_execution", computation_progress=0.0, devices_initialized=list(self.devices))
        try:
            found = executor.execute_algorithm(params)
        finally:
            context.devices.clear()
        metadata = check_result(run.task.task_type, run.executor.Result, found, run.cluster.parties)
        if mine := (metadata.get("columns") or {}).get(self.host.name):
            metadata["columns"] = metadata["columns"] | {self.host.name: self._tellable(context, mine)}
        told = {"warnings": [*dict.fromkeys(context.warnings)]} if context.warnings else {}
        return metadata | told | ({"outputs": self.kept} if self.kept else {})

    def _build(self, cluster: Cluster, run: Run, documents: Mapping[str, Any]) -> None:
        devices = [(DEVICE_REGISTRY[layer](), document) for layer, document in documents.items()]
        self._stage("sf_init")
        self._start_cluster(cluster, run, devices)
        self._stage("sf_cluster_ready", parties_connected=run.cluster.parties)
        for device, document in devices:
            self._stage(f"{device.name}_init")
            self.devices[device.name] = device
            device.start(document, run.cluster)
        if run.task.keep_devices_seconds is not None and self.runtime.directory:
            key, idle = key_of(self.host, run), run.task.keep_devices_seconds
            self.live = LiveSession(key, settings_of(documents), self.job_name, self.job_name, idle, self.devices)

    def _reuse(self, run: Run, documents: Mapping[str, Any], live: LiveSession) -> None:
        self.devices, self.cluster_is_up = live.devices, True
        if live.key != key_of(self.host, run) or live.settings != settings_of(documents):
            raise NetworkError("what the live session rests on was changed in this moment")
        self._stage("sf_cluster_ready", parties_connected=run.cluster.parties, reused_session=live.built_by)
        live.last_run, live.runs = self.job_name, live.runs + 1
        live.idle_seconds = run.task.keep_devices_seconds or 0

    def _context(self, run: Run) -> Context:
        self.workdir_lock = self.host.workdirs.claim(self.workdir)
        self.host.count_uses(run, self.name.execution)
        context = context_of(self.host, run, self.workdir)
        context.run_name = self.job_name
        temporary = self.workdir / "tmp"
        temporary.mkdir(mode=0o700)
        # SPU writes its log into the current directory, and links over TLS have sockets there
        keeps = run.task.keep_devices_seconds is not None
        os.chdir((self.runtime.directory if keeps else None) or self.workdir)
        # SecretFlow's PSI leaves sorted keys and intersection rows under TMPDIR
        os.environ["TMPDIR"] = str(temporary)
        tempfile.tempdir = None
        context.progress = self._progress
        context.keep_output = partial(self._keep_output, context)
        return context

    def _progress(self, fraction: float) -> None:
        self.publisher.progress(fraction)
        self.progress_reports += 1
        if self.progress_reports % self.COLLECT_EVERY == 0:
            gc.collect()

    def _keep_output(
        self,
        context: Context,
        file: Path,
        role: str = "",
        kind: str = TABLE,
        *,
        alignment: str | None = None,
        types: Mapping[str, str] | None = None,
    ) -> None:
        task = context.task
        name = (task.further_outputs[role] if role else task.outputs)[self.host.name]
        special: dict[str, str] = {}
        if kind == TABLE:
            types = types_of_output(file, name, context.sources.values(), types or {})
            guessed = column_types(file, name)
            special = {column: found for column, found in types.items() if found != guessed[column]}
        made_of = {origin for source in context.sources.values() for origin in self.host.origins(source.name)}
        noted = self.host.keep_output(name, file, self.name.execution, kind, alignment, special, made_of)
        told = {column: (types or {})[column] for column in self._tellable(context, types or {})}
        self.kept[name] = {"columns": told, "alignment": noted} if kind == TABLE else {"kind": kind}

    def _tellable(self, context: Context, columns: Iterable[str]) -> list[str]:
        """Return those columns of this party that its policy lets others know."""
        tables = [source for source in context.sources.values() if source.kind == TABLE]
        return self.gate.columns(columns, {c for table in tables for c in column_types(table.path, table.name)})

    def _start_cluster(self, cluster: Cluster, run: Run, devices: Iterable[tuple[Device, Any]]) -> None:
        check_ports(self.host, run)
        # A name of its own: a peer that has not noticed yet that the links hang is still of the meeting before
        meeting = f"{self.job_name} try {self.runtime.tries}" if self.runtime.tries else self.job_name
        cluster.meet(self.documents, devices, meeting)
        self.cluster_is_up = True
        cluster.connect(self.job_name)

    def _tell_log(self) -> None:
        """Tell this process's worker of the log what the policy lets out."""
        if self.host.sends_logs != "off":
            tell_by(self.gate, lines=self.host.logs.text == "known")

    def _stage(self, stage: str, **data: Any) -> None:
        log.info("stage %s", Text(stage))
        self.publisher.publish(RUNNING, stage, **data)

    def _clean_up(self, failure: SecretFlowTaskError | None) -> None:
        if failure is None and self.live and self.live.runs < MOST_RUNS:
            # If the session cannot be kept, this process ends; the peers notice by their broken links
            self.runtime.session = self.live if settle_down() else None
        else:
            self._end_session(failure)
            os.chdir("/")
        if self.workdir_lock:  # else it may be another process's
            shutil.rmtree(self.workdir, ignore_errors=True)
        remove_traces(self.started_at)

    def _end_session(self, failure: SecretFlowTaskError | None) -> None:
        if failure is None and self.cluster and self.cluster.over_tls and self.runtime.ends:
            self.runtime.stays_until = self.cluster.leave()
            return
        devices = reversed(self.devices.values())
        if failure is None and self.cluster:
            try:
                self.cluster.shut_down(devices)
            except Exception:
                log.warning("SecretFlow did not shut down cleanly", exc_info=True)
            return
        stop_all(devices)
        if failure and self.cluster_is_up and not failure.caused_by_peer:
            # No sf.shutdown after an error: it ends this process (on_error) or hangs
            time.sleep(self.LINGER_SECONDS)


def _task_type(documents: dict[str, Any]) -> str:
    task = documents["task_config"]
    return str(task.get("task_type", "unknown"))[:64] if isinstance(task, dict) else "unknown"
