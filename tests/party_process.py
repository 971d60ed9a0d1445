"""A party that runs what it is told, one run after the other in one process, forked from :mod:`tests.preloaded`.

For each order, ``party_toml`` and the keyword arguments of ``execute_secretflow_task`` as ``run``, it sends the run's
result, what was brought up on the way, as SecretFlow's own constructors were called, the engines of other packages'
devices that are imported by then, and, if the session is kept, what was submitted to SecretFlow so far. As with a
worker's process, a live session stays for the next run that asks for it and that it suits; any other run ends it, and
so does an empty order, to which the answer is ``ended``. A failed run ends the process.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

#: How long a session may take to end.
LATE_SECONDS = 15.0
#: In the current run.
brought_up: list[Any] = []


def main(orders: Connection, redis_url: str, directory: Path) -> None:
    """Serve the orders. What else it says goes to the file ``log`` in its directory."""
    with (directory / "log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    faulthandler.register(signal.SIGUSR1)  # where all of its threads are, to whom it says nothing
    try:
        serve(orders, redis_url, directory)
    except EOFError:
        pass  # the tests are over
    except BaseException:
        traceback.print_exc()
    # Threads of SecretFlow's would keep it for ever: it would say nothing any more, and not end either
    os._exit(1)


def serve(orders: Connection, redis_url: str, directory: Path) -> None:
    from workers.contract.connection import connect
    from workers.host.party import PartyHost
    from workers.host.stream import Stream
    from workers.runtime import task_run
    from workers.runtime.zygote import unlike_its_siblings

    unlike_its_siblings()
    watch()
    connection = connect(redis_url)
    at = ""
    while True:
        order = orders.recv()
        brought_up.clear()
        if not order:
            end_session(task_run.runtime)
            orders.send("ended")
            continue
        if task_run.runtime and (at != order["party_toml"] or not suits(task_run.runtime, order["run"])):
            end_session(task_run.runtime)
        if at != order["party_toml"]:
            at = order["party_toml"]
            host = PartyHost.load(at)
            stream = Stream(connection, host.name, host.signer)
            task_run.runtime = task_run.Runtime(host, stream, "by-hand", directory)
        result = task_run.execute_secretflow_task(**order["run"])
        engines = [name for name in ("hsm_engine",) if name in sys.modules]
        more = {"brought_up": list(brought_up), "engines": engines, "submitted": submitted()}
        orders.send(json.loads(json.dumps(result | more)))  # as it would go over Redis
        if result["status"] != "success":
            return  # as a worker's process: broken links are what tells the peers


def suits(runtime: Any, run: dict[str, Any]) -> bool:
    """Whether the run may find the session that is up, if one is: what a worker asks before it gives a process a job.

    The parties need not agree on it: they have had the same runs.
    """
    from workers.runtime import task_run
    from workers.runtime.session import key_of

    if runtime.session is None:
        return True
    documents = {name: document for name, document in run.items() if name != "task_request_id"}
    host = runtime.host.reload()
    try:
        accepted = task_run.accept(host, documents)
    except Exception:
        return True  # the run comes upon it itself, and says what it is
    keeps = accepted.task.keep_devices_seconds is not None
    return keeps and bool(runtime.session.key == key_of(host, accepted))


def submitted() -> int | None:
    """How many results SecretFlow has numbered; None without a session.

    It tells what belongs to what by these numbers: after an unequal count the parties wait for each other for ever.
    """
    from secretflow.distributed.fed.global_context import get_global_context

    context = get_global_context(assert_none=False)
    return context and int(context._seq_count)


def end_session(runtime: Any) -> None:
    """Where a worker would end the process: another import of SecretFlow would take longer than the run."""
    import secretflow as sf

    if runtime.session:
        devices, runtime.session = reversed(runtime.session.devices.values()), None
        # Now and then brpc loses a call, and the party that waits for it would do so for ever, with Python's lock
        signal.setitimer(signal.ITIMER_REAL, LATE_SECONDS)
        for device in devices:
            device.stop()
        sf.shutdown()
        signal.setitimer(signal.ITIMER_REAL, 0)


def watch() -> None:
    """Note each SPU and HEU that is made, and each key pair."""
    import secretflow as sf
    from heu import numpy as heu

    for device in (sf.SPU, sf.HEU):

        def note(self: Any, *args: Any, make: Any = device.__init__, **options: Any) -> None:
            brought_up.append(type(self).__name__)
            make(self, *args, **options)

        device.__init__ = note
    make_keys = heu.setup

    def setup(*how: Any) -> Any:
        if len(how) > 1:  # otherwise it is the keeper's public key
            brought_up.append(how)
        return make_keys(*how)

    heu.setup = setup
