"""Lets the test set the clock of one host: the Python processes of a trial on whose path this is, and no others.

It replaces what Python code reads the time of day by, ``time.time``, ``time.time_ns``, ``datetime.now`` and
``datetime.utcnow``, by functions that add the seconds in a file, also if these change while the process runs. Not
moved are the monotonic clock, which steps do not move either, times of files, and native code: brpc, OpenSSL, the
database and Redis, whose own step of the clock the test plays by other means.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import mmap
import os
import struct
import time
from typing import Any


def follow(path: str) -> None:
    """Add the seconds in this file to the time of day."""
    with open(path, "rb") as file:
        # Shared with the processes that are forked from this one, and with the test, which writes it
        shared = mmap.mmap(file.fileno(), struct.calcsize("d"), access=mmap.ACCESS_READ)

    def ahead() -> float:
        return float(struct.unpack_from("d", shared)[0])

    real, real_ns, now, utcnow = time.time, time.time_ns, datetime.datetime.now, datetime.datetime.utcnow
    time.time = lambda: real() + ahead()
    time.time_ns = lambda: real_ns() + int(ahead() * 1e9)
    # In the class itself: with another class in its place, not all would agree on what a datetime is
    members: Any = gc.get_referents(datetime.datetime.__dict__)[0]
    members["now"] = classmethod(lambda cls, tz=None: now(tz) + datetime.timedelta(seconds=ahead()))
    members["utcnow"] = classmethod(lambda cls: utcnow() + datetime.timedelta(seconds=ahead()))
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


if "CHAOS_CLOCK" in os.environ:
    follow(os.environ["CHAOS_CLOCK"])
