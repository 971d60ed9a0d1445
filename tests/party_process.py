"""A party that runs what it is told, one run after the other in one process: ``python -m tests.party_process``.

Reads from standard input, a line of JSON each: first ``party_toml`` and ``redis_url``, then for each run the keyword
arguments of ``execute_secretflow_task``. Says ``ready`` on standard output, then for each run its result, what was
brought up on the way, as SecretFlow's own constructors were called, and the engines of other packages' devices that are
imported by then. Its other words go to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

#: In the current run.
brought_up: list[Any] = []


def main() -> None:
    sys.path.append(str(Path(__file__).parent / "plugin"))
    hello = json.loads(sys.stdin.readline())
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    from workers import pipeline, standby
    from workers.connection import connect
    from workers.party import PartyHost

    standby.preload()
    watch()
    host = PartyHost.load(hello["party_toml"])
    pipeline.runtime = pipeline.Runtime(host, connect(hello["redis_url"]), "by-hand")
    print("ready", file=said)
    while line := sys.stdin.readline():
        brought_up.clear()
        result = pipeline.execute_secretflow_task(**json.loads(line))
        engines = [name for name in ("hsm_engine",) if name in sys.modules]
        print(json.dumps(result | {"brought_up": brought_up, "engines": engines}), file=said)
    os._exit(0)


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


if __name__ == "__main__":
    main()
