"""The private directories of runs and processes on this host, and their removal."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from workers.contract.errors import ConfigError, ResourceError
from workers.contract.run_name import RunName
from workers.host.places import below
from workers.host.private_files import locked, open_lock


class WorkDirectories:
    """The private directories below one root: SecretFlow's temporary files hold intersection rows."""

    def __init__(self, root: Path) -> None:
        #: The root is on the file system of the outputs, so that keeping an output is a rename.
        self.root = root

    def of_run(self, run: RunName) -> Path:
        """Return the path of one attempt's directory."""
        return below(self.root, str(run))

    def claim(self, path: Path) -> IO[str]:
        """Create a private directory. Its lock is held while the returned file is open: until the process ends.

        Raises ResourceError if a process on this host has it: a job may come twice, from a queue that anybody wrote to.
        """
        with self._locked():
            if is_in_use(path):
                raise ResourceError("another process on this host is at this run already")
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700)
            lock = open_lock(path)
            fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    @contextmanager
    def private(self, purpose: str) -> Iterator[Path]:
        """Yield a private directory of this process that is no run's; it is removed afterwards."""
        path = below(self.root, f"{purpose}-{os.getpid()}")
        with self.claim(path):
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)

    def abandoned(self) -> list[Path]:
        """Return the private directories whose processes are gone, however those ended."""
        with self._locked():
            return [path for path in self.root.iterdir() if not is_in_use(path)]

    def remove_abandoned(self) -> None:
        """Remove the private directories whose processes are gone."""
        with self._locked():
            for path in self.root.iterdir():
                if not is_in_use(path):
                    shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Between its creation and its locking a directory looks abandoned
        for path in (self.root.parent, self.root):  # one at a time: mkdir gives parents no mode
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.root.is_symlink():
            raise ConfigError("the directory for temporary files in output_dir is a symbolic link; remove it")
        with locked(self.root):
            yield


def is_in_use(path: Path) -> bool:
    """Return whether a process has claimed a private directory and is alive; also if it is no directory."""
    try:
        with open_lock(path, create=False) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def remove_traces(since: float) -> None:
    """Remove what runs since then (seconds since the epoch) left outside of their directories. A run beside this one
    may lose its own trace here: nobody reads them."""
    for path, at in traces():
        if at >= since - 1:
            with suppress(OSError):
                path.unlink()


def traces() -> Iterator[tuple[Path, float]]:
    """Yield this user's traces, and when each was changed last: PSI writes one of its timings to a path of its own,
    whatever TMPDIR says."""
    for path in sorted(Path("/tmp").glob("psi_*.trace")):  # noqa: S108
        with suppress(OSError):
            found = path.stat()
            if found.st_uid == os.getuid():
                yield path, found.st_mtime
