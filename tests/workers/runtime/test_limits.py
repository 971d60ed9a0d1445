"""A run that takes more of its host than party.toml allows is ended, whatever it is in the middle of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.parties import Parties, Processes
from workers.host.party_file import Limits
from workers.runtime.exit_status import describe_exit
from workers.runtime.limits import EXCEEDED

#: What a run does: uses memory, takes its time in native code, writes files, or nothing of these.
USES = {
    "memory": "held = bytearray(300 << 20); held[::4096] = b'x' * len(held[::4096]); time.sleep(20)",
    "time": "import ctypes; ctypes.CDLL(None).sleep(20)",
    "disk": "d = path / 'a' / 'b'; d.mkdir(parents=True); (d / 'f').write_bytes(b'x' * (30 << 20)); time.sleep(20)",
    "nothing": "time.sleep(0.5)",
}
RUN = """
import sys, time
from pathlib import Path
from workers.host.party_file import Limits
from workers.runtime import limits
limits.OF_FILES = 0.2
path = Path(sys.argv[1])
with limits.limited(Limits.model_validate_json(sys.argv[2]), path):
    exec(sys.argv[3])
time.sleep(0.3)  # what comes after is not limited
print("went well")
"""


@pytest.mark.parametrize(
    ("what", "limits", "ended_by"),
    [
        ("memory", Limits(max_memory_mb=200), "max_memory_mb"),
        ("time", Limits(max_run_seconds=1), "max_run_seconds"),
        ("disk", Limits(max_disk_mb=20), "max_disk_mb"),
        ("nothing", Limits(max_memory_mb=200, max_run_seconds=10, max_disk_mb=20), None),
        ("nothing", Limits(), None),
    ],
)
def test_a_run_that_takes_too_much_is_ended(tmp_path: Path, what: str, limits: Limits, ended_by: str | None) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path), limits.model_dump_json(), USES[what]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    if ended_by is None:
        assert (done.returncode, done.stdout) == (0, "went well\n")
        return
    assert EXCEEDED.get(done.returncode) == ended_by, done.stderr
    text, kind = describe_exit(done.returncode)
    assert (text, kind) == (
        f"stopped: the run took more than {ended_by} in this host's party.toml allows", "AlgorithmError"
    )  # fmt: skip


def test_a_task_is_limited(processes: Processes, tmp_path: Path) -> None:
    parties = Parties(processes, tmp_path, ("alice", "bob"), spu_config={})
    parties.policies["alice"] = "[limits]\nmax_memory_mb = 1"
    for party in parties.names:
        parties.table(party, "people", pd.DataFrame({"uid": ["a", "b"]}))
    keys = {"input_keys": {"alice": ["uid"], "bob": ["uid"]}, "receivers": ["alice"]}
    task = {
        "task_type": "psi",
        "data_sources": {"alice": "people", "bob": "people"},
        "outputs": {"alice": "common"},
        "algorithm_params": {"psi_params": keys},
    }
    try:
        with pytest.raises(AssertionError, match="this run takes more than max_memory_mb = 1 of"):
            parties.answers(task)
    finally:
        parties.close()
