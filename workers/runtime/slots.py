"""Several workers of a party from one command: ``python manage.py rqworker <party> --slots 4``."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from workers.runtime import zygote
from workers.runtime.diagnosis import ended_how, name_process, write_stacks_on_signal
from workers.runtime.forked import Forked
from workers.runtime.zygote import ROOT, die_with_parent

log = logging.getLogger(__name__)


class Slots:
    """Keeps a worker for each slot, until it is told to end.

    This process imports SecretFlow once, starts no thread, and forks the workers, which share its memory. Each worker
    forks a zygote from itself before it does anything else, since a process can only wait for its own children.
    """

    #: A worker that failed sooner, in seconds, did not get going. Once each slot's has so often, none is tried again.
    SHORT_LIFE, MOST_SHORT_LIVES = 20.0, 3
    #: Seconds before a worker that ended is replaced; they double each time that it did not get going.
    PAUSE, LONGEST_PAUSE = 1.0, 60.0

    def __init__(
        self, party: str, count: int, work: Callable[[int], Any], command: Sequence[str], *, for_ever: bool = True
    ) -> None:
        """``work`` serves the slot with this number, from 1, in the process that it is called in, and may raise
        SystemExit. ``command`` does the same in a fresh process, for where this one must not be forked. Not
        ``for_ever``: a worker that has no more to do is not replaced."""
        self.party, self.count, self._work, self._command = party, count, work, command
        self._for_ever = for_ever
        self._workers: dict[int, Forked | subprocess.Popen[bytes]] = {}
        self._refusal = ""
        self._told_to_end = False
        #: How often in a row each slot's worker failed to get going.
        self._short_lives = dict.fromkeys(range(1, count + 1), 0)

    def run(self) -> int:
        """Keep the workers until all have ended. Returns an exit status: 0 if they were told to end or had no more to
        do."""
        name_process(self.party, f"{self.count} slots")
        write_stacks_on_signal()
        self._refusal = zygote.load()
        if self._refusal:
            log.warning("Each slot has a SecretFlow of its own, which takes more memory: %s", self._refusal)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        begun: dict[int, float] = {}
        due = dict.fromkeys(range(1, self.count + 1), 0.0)
        failed = False
        while due or self._workers:
            for slot in [slot for slot, at in due.items() if at <= time.monotonic()]:
                del due[slot]
                if not self._told_to_end and not failed:
                    self._workers[slot], begun[slot] = self._start(slot), time.monotonic()
            time.sleep(0.1)
            for slot, status in self._ended():
                expected = self._told_to_end or failed or (status == 0 and not self._for_ever)
                log.log(
                    logging.INFO if expected else logging.WARNING,
                    "the worker of slot %s ended: %s", slot, ended_how(status),
                )  # fmt: skip
                if expected:
                    continue
                # A signal says nothing about whether it could have gone on
                is_short = status > 0 and time.monotonic() - begun[slot] < self.SHORT_LIFE
                self._short_lives[slot] = self._short_lives[slot] + 1 if is_short else 0
                if min(self._short_lives.values()) >= self.MOST_SHORT_LIVES and not self._workers:
                    log.error("the workers end as soon as they begin; see the lines above. None is started any more")
                    failed = True
                pause = min(self.PAUSE * 2 ** self._short_lives[slot], self.LONGEST_PAUSE)
                due[slot] = time.monotonic() + pause
        return 1 if failed else 0

    def _ended(self) -> list[tuple[int, int]]:
        """Return the slots whose workers have ended since this was asked last, with their exit statuses."""
        found = [(slot, status) for slot, worker in self._workers.items() if (status := worker.poll()) is not None]
        for slot, _ in found:
            del self._workers[slot]
        return found

    def _start(self, slot: int) -> Forked | subprocess.Popen[bytes]:
        if self._refusal:
            return subprocess.Popen(self._command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
        parent = os.getpid()
        return Forked(pid) if (pid := os.fork()) else self._serve(slot, parent)

    def _serve(self, slot: int, parent: int) -> NoReturn:
        """Be the worker of a slot."""
        status: Any = 1
        try:
            # Ctrl-C in a terminal reaches the parent alone, which tells everybody once
            os.setsid()
            die_with_parent(parent)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            zygote.fork_here(self.party)
            self._work(slot)
            status = 0
        except SystemExit as error:
            status = error.code
        except BaseException:
            log.exception("the worker of slot %s failed", slot)
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)

    def _end(self, *_: Any) -> None:
        """Tell the workers to end after their jobs; told a second time, at once."""
        self._told_to_end = True
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for worker in list(self._workers.values()):
            worker.send_signal(number)
