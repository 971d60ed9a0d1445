"""The processes whose jobs are done, and that are about to end."""

from __future__ import annotations

import threading

from workers.runtime.compute_process import ComputeProcess


class Leaving:
    """Waits for their end: a job that is done need not wait for the links and the memory of its process."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def add(self, process: ComputeProcess) -> None:
        """Look after one until it has ended, by force after some seconds."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=process.close, name="leaving", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads: then the next job waits for this one's process
            process.close()
        else:
            self._threads.append(thread)

    def close(self) -> None:
        """Wait for all of them; none takes more than some seconds."""
        for thread in self._threads:
            thread.join()
