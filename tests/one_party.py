"""One party of a bare SecretFlow session over links as ours are, without a meeting; forked from :mod:`tests.preloaded`.

Receives its part, and says how far it came: ``ready``, upon which it waits for ``go``; ``cluster`` after values have
come over the cross-silo link; ``spu`` after a sum on the SPU; or ``failed`` and how :mod:`workers.contract.errors`
classifies the error. Its other words go to the log.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from workers.contract.errors import classify
from workers.network import links
from workers.network.tls import KeyMaterial

PLANTED = "in-the-clear-" * 64


class Crafted:
    """Makes a file in the current directory of whoever reads its pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("open('ran', 'w').close()",)

    def __deepcopy__(self, memo: Any) -> Crafted:
        return self  # SecretFlow copies what it reveals


def main(talk: Connection, part: dict[str, Any], log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(part["directory"])
    links.MAX_RETRIES = 150  # three seconds, and not ten: nobody comes later than that
    prepare(part["tls"])

    def give_up() -> None:  # where brpc hangs as it connects, as it does now and then: see links._in_time
        talk.send("failed NetworkError the link hangs")
        os._exit(0)

    links._give_up = give_up
    talk.send("ready")
    talk.recv()
    try:
        run(part, talk)
    except BaseException as error:
        print(error, file=sys.stderr, flush=True)
        found = classify(error)
        talk.send(f"failed {type(found).__name__} {found}")
        time.sleep(1)
    os._exit(0)


def prepare(files: dict[str, str] | None) -> None:
    tls = KeyMaterial(**{name: Path(path) for name, path in files.items()}) if files else None
    links.prepare_links()
    links.secure_links(tls, {}, {})


def run(part: dict[str, Any], talk: Connection) -> None:
    import numpy as np
    import secretflow as sf

    options: dict[str, Any] = {"recv_timeout_ms": 5000, "connect_retry_times": 1}
    if part["backend"] == "grpc":
        policy = {"maxAttempts": 3, "initialBackoff": "0.2s", "maxBackoff": "1s", "backoffMultiplier": 2}
        options = {"timeout_in_ms": 5000, "grpc_retry_policy": policy | {"retryableStatusCodes": ["UNAVAILABLE"]}}
    sf.init(
        address=None,
        ray_mode=False,
        cluster_config={"parties": part["cluster"], "self_party": part["party"]},
        cross_silo_comm_backend=part["backend"],
        cross_silo_comm_options=options,
        job_name="links",
        logging_level="info",
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    alice, bob = sf.PYU("alice"), sf.PYU("bob")
    if part["crafted"]:
        sf.reveal(bob(lambda: Crafted())())
    assert sf.reveal([alice(lambda: PLANTED)(), bob(lambda: PLANTED)()]) == [PLANTED] * 2
    talk.send("cluster")
    prepare(part["spu_tls"])
    device = sf.SPU(
        {"nodes": part["nodes"], "runtime_config": {"protocol": "SEMI2K", "field": "FM64"}},
        link_desc={"recv_timeout_ms": 5000, "connect_retry_times": 1},
    )
    x, y = alice(lambda: np.array([1.0, 2.0]))(), bob(lambda: np.array([3.0, 4.0]))()
    total = sf.reveal(device(lambda a, b: (a * b).sum())(x.to(device), y.to(device)))
    assert abs(float(total) - 11) < 0.01, total
    talk.send("spu")
    del x, y, device
    gc.collect()
    sf.shutdown()
