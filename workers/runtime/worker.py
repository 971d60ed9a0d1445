"""The RQ worker of a party: ``python manage.py rqworker <party>``."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, worker_registration
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.timeouts import HorseMonitorTimeoutException

from workers.contract.acl import worker_name
from workers.contract.connection import DEFAULT_URL, connect, refusal, trouble
from workers.contract.errors import ConfigError
from workers.contract.jobs import STOP_MARK, install_gate
from workers.contract.keys import ports_wanted, stream_of
from workers.contract.orders import PORTS_WANTED
from workers.contract.run_name import RunName
from workers.host.party import PartyHost
from workers.host.workdirs import remove_traces
from workers.network.links import LINK_LOST
from workers.runtime.compute_process import DONE, LINKS_STAY, ComputeProcess
from workers.runtime.desk import Desk
from workers.runtime.diagnosis import describe_host, name_process, write_stacks_on_signal
from workers.runtime.exit_status import publish_end
from workers.runtime.intake import Intake
from workers.runtime.job_logs import JobLogs
from workers.runtime.journal import Journal
from workers.runtime.keeper import Keeper
from workers.runtime.leaving import Leaving
from workers.runtime.next_process import NextProcess
from workers.runtime.ordered_worker import OrderedWorker
from workers.runtime.publisher import Publisher
from workers.runtime.resources import Resources
from workers.runtime.run_log import RunLog
from workers.runtime.starter import START_TIMEOUT, Starter

log = logging.getLogger(__name__)

#: How long a worker counts as alive after its last sign of life, in seconds: the time to live of its
#: key in Redis, so that no two clocks are compared.
HEARTBEAT_TTL = int(os.environ.get("WORKER_HEARTBEAT_TTL", "8"))
HEARTBEAT_INTERVAL = 2.0
#: Sequence of the first event that the worker process itself sends about a job: after all of the job's own.
WORKER_SEQUENCE = 1_000_000
#: Processes that try a job whose links hang, one after the other.
MOST_TRIES = 3
#: Seconds into a job after which the process for the next one is forked: by then this one waits for its links.
NEXT_AFTER = 0.1


class PartyWorker(OrderedWorker):
    """Takes one job at a time from its party's queue and has it done by a compute process.

    Differs from RQ's worker in this: JSON always; a heartbeat thread that does not depend on the job;
    the work horse is a compute process; and it reports the end of a process that could not do so itself.
    """

    max_connection_wait_time = 2.0

    def __init__(self, queues: Any, name: str | None = None, **options: Any) -> None:
        party_toml = Path(os.environ.get("PARTY_TOML", "party.toml")).resolve()
        self.redis_url = os.environ.get("REDIS_URL", DEFAULT_URL)
        self.host = PartyHost.load(party_toml)
        names = [q if isinstance(q, str) else q.name for q in queues]
        if names != [self.host.name]:
            raise ConfigError(
                f"{party_toml} is of party {self.host.name}: start this worker as `rqworker {self.host.name}`"
            )
        self.host.prepare_directories()
        self._intake, _ = Intake(self.host), self.host.signer  # what is missing is said before anything starts
        install_gate()
        options |= {
            "serializer": JSONSerializer,
            "job_class": self._intake.job_class,
            "worker_ttl": 20,
            "job_monitoring_interval": 2,
            "maintenance_interval": 60,
        }
        name = worker_name(self.host.name, name or f"{socket.gethostname()}-{os.getpid()}")
        super().__init__(queues, name, **options)
        for queue in self.queues:
            queue.serializer = JSONSerializer
            queue.job_class = self._intake.job_class
        self.log_job_description = False  # it is the call with all its arguments
        self._starter = Starter(self.name, self.redis_url, self.host)
        self._next = NextProcess(self._starter)
        self._keeper = Keeper(self.host)
        self._leaving = Leaving()
        self._resources = Resources(self.host.output_dir)
        self._logs = JobLogs(self.host, party_toml, self.redis_url)
        self._run_log: RunLog | None = None
        self._desk: Desk | None = None
        self._alive = threading.Event()
        #: What the log was told last of why Redis does not serve the heartbeat.
        self._told_trouble = ""
        self._took_job_at = 0.0
        #: What the process that has the job was told of it.
        self._order: dict[str, Any] = {}
        #: Error and class, where the job's process was killed by this worker and not by the machine.
        self._stopped_because: tuple[str, str] | None = None

    # --- life

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        write_stacks_on_signal()
        self.host.workdirs.remove_abandoned()
        for _ in range(2):  # the first may be killed: by hand, or for want of memory while much starts at once
            self._next.start()
            if self._next.is_ready(START_TIMEOUT):
                break
        else:
            raise ConfigError(
                "SecretFlow could not be started; see the lines above "
                "(is it installed? `uv sync --extra party`, on Python 3.10)"
            )
        why = self._starter.zygote.refusal
        each = f"each in a fresh process ({why})" if why else "each forked from one process that has SecretFlow"
        self.log.info("Worker %s: %s", self.name, describe_host(f"jobs run {each}"))
        self.wait_for_redis()  # only now does the control plane see this worker: a live worker can compute at once
        self.drop_foreign()
        super().bootstrap(*args, **kwargs)
        self._alive.set()
        self._resources.start()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        self._desk = Desk(self.host, self.stream(connect(self.redis_url)), self.name, self._starter, self._intake)
        threading.Thread(target=self._desk.serve, args=[self._alive], name="pre-flight", daemon=True).start()

    def work(self, *args: Any, **kwargs: Any) -> bool:
        worked = super().work(*args, **kwargs)
        ends_by_itself = any(kwargs.get(name) for name in ("burst", "max_jobs", "max_idle_time"))
        if self._shutdown_requested_date is None and not ends_by_itself:
            # RQ has logged why. It would leave with status 0, and a supervisor would not start it again.
            raise SystemExit(1)
        return worked

    def teardown(self) -> None:
        self._alive.clear()
        self._resources.end()
        self._next.close()
        if self._desk:
            self._desk.close()
        self._leaving.close()
        self._keeper.end()
        self._starter.close()
        self._logs.close()
        try:
            super().teardown()
        except RedisError as error:
            self.log.warning("could not sign off: %s", type(error).__name__)

    def procline(self, message: str) -> None:
        name_process(self.host.name, "worker", message)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        self._next.start()  # every few seconds, in the main thread
        try:
            super().heartbeat(HEARTBEAT_TTL, pipeline)
        except RedisError as error:  # RQ would quit; the heartbeat thread beats again when Redis is back
            self._note_trouble(self.connection, error)

    def _note_trouble(self, connection: Redis, error: Exception) -> None:
        """Say what is wrong with Redis, once, and stay alive for the control plane where that can be done.

        A server that takes no writes because it is full still lets a key live on; this worker's would be gone after
        some seconds, and its run would be taken for lost.
        """
        if (why := trouble(error)) != self._told_trouble:
            log.warning("Worker %s: %s. Its work goes on", self.name, why)
            self._told_trouble = why
        if isinstance(error, RedisError) and refusal(error):
            with suppress(RedisError, OSError):
                connection.expire(self.key, HEARTBEAT_TTL)

    def _beat(self) -> None:
        connection = connect(self.redis_url)
        stream = self.stream(connection)
        journal = Journal(self.host.journal_dir)
        told: str | None = None
        #: These tell the control plane whether this worker follows its orders, and whether it knows this party's key.
        keys = {"follows": " ".join(self._intake.verifier.key_ids), "signs_with": self.host.signer.key_id}
        #: Redis may have lost what it was given: true at first, because nobody watched it until now.
        lost = True
        while self._alive.is_set():
            waiting = self._next.state
            try:
                with connection.pipeline() as pipeline:
                    # Not whether the key is there: RQ's heartbeat and the job note things in it, and after Redis came
                    # back empty they may be the first. The birth is in what is written here alone.
                    pipeline.hget(self.key, "birth")
                    pipeline.xlen(stream_of(self.host.name))
                    pipeline.get(ports_wanted(self.host.name))
                    # All of it each time: Redis may have come back empty
                    mine = self._at_work() | {"process": waiting} | self._ports() | keys | self._resources.told
                    pipeline.hset(self.key, mapping=self.serialize() | mine)
                    pipeline.expire(self.key, HEARTBEAT_TTL)
                    worker_registration.register(self, pipeline)
                    if waiting == "ready" and told != waiting:
                        # No event, only a nudge: the coordinator need not find out at its next look
                        pipeline.xadd(stream_of(self.host.name), {"ready": self.name})
                    was_there, unread, wish, *_ = pipeline.execute()
                self._told_trouble = ""
                told = waiting
                lost = lost or not was_there
                journal.deliver(stream, everything=lost)
                if not unread and not lost:
                    journal.forget_applied()
                lost = False
                unwanted = self._intake.is_new(PORTS_WANTED, wish)
                if self._keeper.look_after(unwanted=unwanted):
                    if unwanted:  # else the session of the run that it made room for would end for the same wish
                        connection.delete(ports_wanted(self.host.name))
                    continue  # and tell that its ports are free
            except (RedisError, OSError) as error:
                self._note_trouble(connection, error)
            except Exception as error:
                # Whatever it is, a worker that ended its heartbeat for it would be taken for dead, with its job
                if repr(error) != self._told_trouble:
                    log.exception("Worker %s: a heartbeat failed; the next one is tried", self.name)
                self._told_trouble = repr(error)
            until = time.monotonic() + HEARTBEAT_INTERVAL
            while time.monotonic() < until and self._alive.is_set():
                time.sleep(0.05)
                if told == "starting" and self._next.state == "ready":
                    break
                if told == "ready" and not self._next.is_there:
                    told = "starting"  # a job took it; whoever handed it over has said so

    def _ports(self) -> dict[str, str]:
        """Return the ports of a session that outlives its run, which nobody has leased any more."""
        return {"ports": " ".join(map(str, self._keeper.ports))}

    def _at_work(self) -> dict[str, Any]:
        """Return its state and its job: RQ notes the job elsewhere alone, in a key of its own."""
        return {"state": self._state, "current_job": "".join(at.job_id for at in list(self.executions.values())[:1])}

    # --- jobs

    def execute_job(self, job: Any, queue: Queue) -> None:
        try:
            super().execute_job(job, queue)
        except StopRequested:
            raise
        except Exception as error:
            # Redis went away, or came back without this job. The job's own events are on disk, and the control
            # plane decides by them.
            self.log.warning("Worker %s: could not finish job %s: %s", self.name, job.id, type(error).__name__)
            if self.horse_pid:
                self._stopped_because = ("stopped: its worker could not look after it", "NetworkError")
                self.kill_horse()
                self._computing.close()
                self._report_killed(job)
        finally:
            # RQ forgets a job's execution as it notes the job's end. One that stayed, as Redis was away in that moment,
            # would be taken for that of every job to come.
            self.executions.clear()
            self._horse_pid = 0
            self._keeper.run_ended()
            self.procline("waits for a job")
            self._next.start()
            # Of this job, and of other workers here that were killed
            self.host.workdirs.remove_abandoned()

    def fork_work_horse(self, job: Any, queue: Queue) -> None:
        """Hand the job to the compute process, which becomes RQ's work horse."""
        assert self.execution
        self._took_job_at = time.time()
        self.procline(f"has job {job.id}")
        self._stopped_because = None
        # RQ writes it when that process begins; until then nobody could tell which worker had taken the job
        self.patiently(lambda: self.connection.hset(job.key, "worker_name", self.name))
        self._order = {"job_id": job.id, "execution_id": self.execution.id, "queue": queue.name, "tries": 0}
        self._order["known"] = self._desk.known_for_a_job() if self._desk else {}
        self._run_log = self._logs.of(job)
        self._computing = self._take_session(job, self._order) or self._next.take(self._order, self._run_log)
        self._computing.purpose = f"job {job.id}"
        self._horse_pid = self._computing.process.pid
        with suppress(RedisError):
            self.connection.hset(self.key, mapping=self._at_work() | {"process": self._next.state} | self._ports())

    def _take_session(self, job: Any, order: dict[str, Any]) -> ComputeProcess | None:
        try:
            request = job.kwargs
        except Exception:
            request = {}  # anything may be in a job; its process says what is wrong
        if (process := self._keeper.process_for(request, lambda: self._is_stopped(job))) is None:
            return None
        try:
            process.give(order, self._run_log)
        except BrokenPipeError:  # it died in this moment; the peers will miss it, and all try again
            process.close()
            return None
        return process

    def _is_stopped(self, job: Any) -> bool:
        try:
            return self.connection.hget(job.key, STOP_MARK) is not None
        except RedisError:
            return False

    def kill_horse(self, *args: Any) -> None:
        if not self.horse_pid:
            return  # RQ would kill this process instead; before it begins a job sees for itself that it was stopped
        if self._stopped_because is None and self._stopped_job_id:
            self._stopped_because = ("stopped at the control plane's request", "AlgorithmError")
        elif self._stopped_because is None and self._shutdown_requested_date:
            self._stopped_because = ("stopped: its worker was told to stop at once", "NetworkError")
        super().kill_horse(*args)

    def wait_for_process(self) -> Any:
        try:
            outcome = self._outcome()
        except TimeoutError:
            raise HorseMonitorTimeoutException from None
        if outcome == DONE:
            self._leaving.add(self._computing)
            return self.horse_pid, os.EX_OK, None
        if outcome:
            self._computing.end_log()
            self._keeper.keep(self._computing, outcome)
            return self.horse_pid, os.EX_OK, None
        try:
            status = self._computing.process.wait(self.job_monitoring_interval)
        except subprocess.TimeoutExpired:
            raise HorseMonitorTimeoutException from None
        hung = "its job is done, and its links to the other parties hung as they ended" if status == -LINKS_STAY else ""
        self._computing.tell_end(self._stopped_because[0] if self._stopped_because else hung)
        if status == LINK_LOST and self._order["tries"] < MOST_TRIES - 1:
            self._try_again()
            return self.wait_for_process()
        return self.horse_pid, -status if status < 0 else status << 8, None

    def _outcome(self) -> Any:
        if not self._next.is_there:
            with suppress(TimeoutError):
                return self._computing.outcome(NEXT_AFTER)
            # Now, and not when this job has ended: the next one need not wait for its process
            self._next.start()
        return self._computing.outcome(self.job_monitoring_interval)

    def _try_again(self) -> None:
        """Give the job to another process. The peers' workers do the same: links hang at all parties alike."""
        self._order["tries"] += 1
        self._computing = self._next.take(self._order, self._run_log)
        self._computing.purpose = f"job {self._order['job_id']}"
        self._horse_pid = self._computing.process.pid

    def maintain_heartbeats(self, job: Any, execution: Any) -> None:
        try:
            if not self.connection.exists(job.key):
                # Redis lost its data. The coordinator takes the job for lost and may start another attempt:
                # this one must not compute beside it.
                self.log.warning("Worker %s: job %s is gone from Redis, stopping it", self.name, job.id)
                self._stopped_because = ("stopped: the control plane gave its run up, or Redis lost it", "NetworkError")
                self.kill_horse()
                return
            super().maintain_heartbeats(job, execution)
        except RedisError as error:
            # Not a reason to lose sight of the process: it computes on, and Redis comes back
            self._note_trouble(self.connection, error)

    def monitor_work_horse(self, job: Any, queue: Queue, execution: Any) -> None:
        try:
            super().monitor_work_horse(job, queue, execution)
        finally:
            self._report_killed(job)

    def _report_killed(self, job: Any) -> None:
        """Tell the control plane of a job whose process did not end by itself, and tidy up behind it."""
        status = self._computing.process.returncode
        if status in (None, 0):
            return
        try:
            run = RunName.of(job.kwargs["task_request_id"], job.kwargs)
            if job.id != run.job_of(self.host.name):
                return
            task_type = str(job.kwargs["task_config"]["task_type"])
        except Exception:
            return  # refused before it began: not a job of ours
        publisher = Publisher(
            self.stream(self.connection),
            run=run,
            worker=self.name,
            task_type=task_type,
            journal_dir=self.host.journal_dir,
            first_sequence=WORKER_SEQUENCE,
        )
        publish_end(publisher, status, self._stopped_because)
        self.host.workdirs.remove_abandoned()
        remove_traces(self._took_job_at)
