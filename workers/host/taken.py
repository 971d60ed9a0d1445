"""Which orders of the control plane this host has taken, so that none is followed twice."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from workers.contract.orders import LASTS, Order, OrderRefused

#: Orders taken between two looks for notes that are no longer needed.
LOOK_EVERY = 500


class TakenOrders:
    """Notes of the orders that were taken, one empty file each, which all processes of this host share and which
    outlast them. A note is removed once its order has expired."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._until_look = 0

    def take(self, order: Order) -> None:
        """Take an order. Raises OrderRefused if it was taken before, or if that it is taken cannot be noted."""
        if self._until_look <= 0:
            self._forget_expired()
            self._until_look = LOOK_EVERY
        self._until_look -= 1
        # A digest: an id may be any text
        note = self.directory / hashlib.sha256(f"{order.kind} {order.id}".encode()).hexdigest()[:40]
        try:
            os.close(os.open(note, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise OrderRefused("this host has taken it before") from None
        except OSError as error:
            raise OrderRefused(f"this host cannot note on its disk that it takes it ({error.strerror})") from None

    def _forget_expired(self) -> None:
        # Orders of a control plane whose clock is ahead expire later by this host's clock
        before = time.time() - 2 * LASTS - 60
        for note in self.directory.iterdir() if self.directory.is_dir() else ():
            try:
                if note.stat().st_mtime < before:
                    note.unlink()
            except FileNotFoundError:  # another process of this host looks, too
                continue
