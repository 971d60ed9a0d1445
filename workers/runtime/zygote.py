"""A process that imports SecretFlow once and forks the processes that compute: ``python -m workers.runtime.zygote``.

Importing SecretFlow takes two to five seconds of a core; a fork takes 20 ms and shares the memory. A fork copies the
calling thread alone, so a lock that another thread holds would stay locked for ever. SecretFlow starts threads as it
is imported; the zygote imports it without those that matter (docs/secretflow.md), looks which threads there are,
and refuses to fork where it does not know one. The worker then starts a fresh process for each job.

The processes that it forks become children of the worker, which waits for them, and they end with it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers.contract.errors import ConfigError
from workers.contract.layers import layers
from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.contract.validation import validate
from workers.host.key_columns import check_keys
from workers.runtime.diagnosis import ended_how, name_process, write_stacks_on_signal
from workers.runtime.forked import Forked

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
#: Threads that begin anew in a forked process by themselves: brpc's, as SPU and PSI bring it.
RESTARTED = {"bvar_sampler"}
#: Longest order, in bytes.
ORDER_BYTES = 16_384
_blas_threads = int(os.environ.get("OPENBLAS_NUM_THREADS") or os.cpu_count() or 1)


def _prctl(option: int, value: Any) -> None:
    ctypes.CDLL(None).prctl(option, value)


class Zygote:
    """A worker's zygote. It is started when it is first needed, and again when it was killed.

    One thread uses it, see :class:`workers.runtime.starter.Starter`: the process dies with the thread that started it.
    """

    START_TIMEOUT = 120.0
    #: A fork takes 20 ms, and a stopped or stuck zygote must not hold its worker for long.
    FORK_TIMEOUT = 10.0

    #: The first zygote of this process, where that could be forked from it: see :func:`fork_here`.
    forked_here: tuple[Forked, socket.socket] | None = None

    def __init__(self, party: str) -> None:
        self.party = party
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._conversation: socket.socket | None = None
        #: What it said as it became ready: why it does not fork, or nothing.
        self._refusal: str | None = None

    def fork(self, entry: str, descriptors: Sequence[int], environment: Mapping[str, str]) -> int | None:
        """Return the pid of a new process, a child of this one; None if the zygote must not fork here.

        The process calls ``entry``, the dotted name of a function. The first three ``descriptors`` are its standard
        input, output and error, the others are open in it. Raises OSError if the zygote does not start, or ended
        meanwhile.
        """
        if self._process and (status := self._process.poll()) is not None:
            log.warning("the zygote (pid %s) ended: %s; another one is started", self._process.pid, ended_how(status))
            self.close()
        if self._process is None:
            self._start()
        if self._refusal:
            return None
        assert self._conversation
        order = json.dumps({"entry": entry, "environment": dict(environment)}).encode()
        try:
            socket.send_fds(self._conversation, [order], list(descriptors))
            pid = self._hear()
        except OSError as error:
            log.warning("the zygote is given up: %s", error)
            self.close()  # the next answer would be to this order
            raise
        if not pid.isdigit():
            raise OSError(f"the process that forks could not: {pid or 'it ended'}")
        return int(pid)

    @property
    def refusal(self) -> str:
        """Why it does not fork; nothing if it does, or has not been asked yet."""
        return self._refusal or ""

    def close(self) -> None:
        """End it. What it forked goes on."""
        if self._conversation:
            self._conversation.close()
        if self._process:
            if self._process.poll() is None:
                log.info("the zygote (pid %s) is ended", self._process.pid)
            self._process.kill()
            self._process.wait()
        self._process = self._conversation = None

    def _start(self) -> None:
        self.close()
        # What the zygote forks would otherwise be a child of init, which tells nobody how it ended
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        if Zygote.forked_here:
            (self._process, self._conversation), Zygote.forked_here = Zygote.forked_here, None
        else:
            self._conversation, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                arguments = [str(theirs.fileno()), str(os.getpid()), self.party]
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "workers.runtime.zygote", *arguments],
                    cwd=ROOT, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[theirs.fileno()], start_new_session=True,
                )  # fmt: skip
        self._conversation.settimeout(self.START_TIMEOUT)
        try:
            said = self._hear()
            if not said.startswith("ready"):
                raise OSError("the process that imports SecretFlow ended")
        except OSError:
            self.close()  # it may not have ended altogether, and the next order would go to it
            raise
        self._conversation.settimeout(self.FORK_TIMEOUT)
        self._refusal = said.removeprefix("ready").strip()
        if self._refusal:
            log.warning("Each job gets a fresh process, which takes seconds longer: %s", self._refusal)

    def _hear(self) -> str:
        assert self._conversation
        return self._conversation.recv(ORDER_BYTES).decode()


def fork_here(party: str) -> None:
    """Fork this process's zygote from itself, which has called :func:`load` and has no thread of its own yet."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker = os.getpid()
    if pid := os.fork():
        theirs.close()
        Zygote.forked_here = Forked(pid), ours
        return
    try:
        ours.close()
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        main(theirs, worker, party, load=lambda: "")
    except BaseException:
        log.exception("the zygote ended")
    os._exit(1)


# --- in the process


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent's main thread ends: no orphan computes on."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the call
        os._exit(1)


def load() -> str:
    """Import all that a job may need, without threads that a fork would break.

    Returns which unknown threads there are nevertheless, in words; nothing if a fork is safe.
    """
    # Read as the libraries are loaded: no thread of jemalloc's, none of OpenBLAS's
    os.environ |= {"ARROW_DEFAULT_MEMORY_POOL": "system", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    os.environ |= {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}  # see unlike_its_siblings
    # Its threads, which begin in each process, would spin for up to 80 ms before they sleep: half of a short run's CPU
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    if importlib.util.find_spec("duckdb"):
        # Its default database has a thread, which waits for work; queries do without it
        importlib.import_module("duckdb")
    known = set(threads())
    import jax.numpy
    import numpy

    array = jax.numpy.array
    # An array that a module of SecretFlow's makes as it is imported would start JAX, and its threads
    jax.numpy.array = numpy.array
    try:
        import secretflow  # noqa: F401
    finally:
        jax.numpy.array = array
    names = ["workers.runtime.compute", "workers.devices.spu", "secretflow.device.device.spu", "pyarrow.csv"]
    for name in [*names, *(name for executor in TASK_EXECUTOR_REGISTRY.values() for name in executor.preload)]:
        importlib.import_module(name)
    unknown = [name for number, name in threads().items() if number not in known and name not in RESTARTED]
    _warm_up()  # pyarrow knows about forks, so its threads may begin here
    # What was imported stays: the collections of garbage in a run, a tenth of a second each, need not look at it
    gc.collect()
    gc.freeze()
    counted = ", ".join(f"{count} x {name}" for name, count in Counter(unknown).items())
    return f"the libraries started threads that are not known to be safe to fork: {counted}" if unknown else ""


def _warm_up() -> None:
    """Do once what the first checks would otherwise be slow at: some 70 ms that a run need not wait for."""
    import pyarrow

    # For Ctrl-C, which a job never gets, pyarrow looks through all objects of the process after each file: 25 ms
    pyarrow.enable_signal_handlers(False)

    with suppress(ConfigError):
        validate({layer: {} for layer in layers()})
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as table:
        table.write("key\n1\n")
        table.flush()
        check_keys(Path(table.name), "warm-up", ["key"])


def threads() -> dict[str, str]:
    """Return this process's threads, name by number."""
    tasks = Path("/proc/self/task")
    return {task.name: (task / "comm").read_text().strip() for task in tasks.iterdir()}


def main(conversation: socket.socket, worker: int, party: str, load: Callable[[], str] = load) -> None:
    """Fork what the worker with this pid orders. Never returns."""
    die_with_parent(worker)
    name_process(party, "zygote")
    write_stacks_on_signal()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX's, which has not started
    conversation.send(f"ready {load()}".encode())
    while True:
        order, descriptors, _, _ = socket.recv_fds(conversation, ORDER_BYTES, 16)
        if not order:
            os._exit(0)  # the worker is gone
        try:
            answer = str(_fork(json.loads(order), descriptors, conversation, worker))
        except OSError as error:  # no memory, too many processes: the worker says so
            answer = str(error)
        for descriptor in descriptors:
            os.close(descriptor)
        conversation.send(answer.encode())


def _fork(order: dict[str, Any], descriptors: list[int], conversation: socket.socket, worker: int) -> int:
    """Fork by way of a process that ends at once: its child becomes one of the worker's."""
    told, tell = os.pipe()
    try:
        between = os.fork()
    except OSError:
        os.close(told)
        os.close(tell)
        raise
    if between == 0:
        try:
            pid = os.fork()
        except OSError as error:
            log.warning("a process could not be forked: %s", error)
            os._exit(1)
        if pid:
            os.write(tell, str(pid).encode())
            os._exit(0)
        os.close(told)
        os.close(tell)
        _run(order, descriptors, conversation, worker)
    os.close(tell)
    try:
        os.waitpid(between, 0)
        answer = os.read(told, 32)
    finally:
        os.close(told)
    if not answer:
        raise OSError("a second fork failed")
    return int(answer)


def _run(order: dict[str, Any], descriptors: list[int], conversation: socket.socket, worker: int) -> None:
    """Become the process that was asked for. Never returns."""
    try:
        conversation.close()
        os.setsid()
        os.dup2(descriptors[0], 0)
        os.dup2(descriptors[1], 1)
        os.dup2(descriptors[2], 2)
        os.environ |= order["environment"]
        for descriptor in descriptors[:3]:
            os.close(descriptor)
        tempfile.tempdir = None  # it was found before TMPDIR was set
        until = time.monotonic() + 10
        while os.getppid() != worker and time.monotonic() < until:
            time.sleep(0.0005)  # the process in between has not ended yet
        die_with_parent(worker)
        unlike_its_siblings()
        module, _, function = order["entry"].rpartition(".")
        getattr(importlib.import_module(module), function)()
    except BaseException:
        log.exception("a forked process ended")
    os._exit(1)


def unlike_its_siblings() -> None:
    """Give a forked process what was set for all of them: random numbers of its own, and all cores."""
    import numpy
    import threadpoolctl

    random.seed()
    numpy.random.seed()
    threadpoolctl.threadpool_limits(_blas_threads, "blas")


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), sys.argv[3])
