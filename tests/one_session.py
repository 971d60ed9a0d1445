"""One party of a live session that runs tasks one after the other: ``python -m tests.one_session <party.toml>``.

Reads documents from standard input, a line of JSON for each task, and answers on standard output with a line of what
the task returned, or of its error, after which it ends. What a run does beside (meeting, devices, checks, keeping
outputs) is what :mod:`workers.pipeline` does; only its events go nowhere.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from functools import partial
from typing import Any
from unittest.mock import Mock

from workers import pipeline
from workers.devices import DEVICE_REGISTRY
from workers.errors import classify
from workers.party import PartyHost, remove_run_files


def main() -> None:
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    host = PartyHost.load(sys.argv[1])
    host.prepare_directories()
    running: Any = None
    for number, line in enumerate(sys.stdin):
        documents = json.loads(line)
        try:
            run = pipeline.accept(host, documents)
            if running is None:
                running = begun(host, run, documents)
            print(json.dumps(once(running, host, run, number)), file=said)
        except BaseException as error:
            traceback.print_exc()
            print(json.dumps({"error": f"{type(classify(error)).__name__}: {classify(error)}"}), file=said)
            break
    os._exit(0)


def begun(host: PartyHost, run: Any, documents: dict[str, Any]) -> Any:
    running = pipeline._TaskRun(pipeline.Runtime(host, Mock(), "worker"), "session", documents)
    running.publisher = Mock()
    running.workdir_lock = host.claim_workdir(running.workdir)
    temporary = running.workdir / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    os.chdir(running.workdir)
    running._start_cluster(run)
    for layer, document in run.devices.items():
        device = DEVICE_REGISTRY[layer]()
        running.devices[device.name] = device
        device.start(document, run.cluster)
    gc.disable()
    return running


def once(running: Any, host: PartyHost, run: Any, number: int) -> dict[str, Any]:
    started, workdir = time.time(), running.workdir / str(number)
    workdir.mkdir()
    running.kept, running.execution = {}, f"execution{number}"
    session = pipeline.session_of(host, run, workdir)
    for layer, document in run.devices.items():
        name = DEVICE_REGISTRY[layer].name
        session.devices[name], session.documents[name] = running.devices[name].device, document
    session.keep_output = partial(running._keep_output, run.task)
    executor = run.executor(session)
    result: dict[str, Any] = executor.execute_algorithm(executor.validate_params(run.task.algorithm_params))
    gc.collect()
    remove_run_files(workdir, started)  # PSI's traces too, outside of it
    return result | {"outputs": running.kept}


if __name__ == "__main__":
    main()
