"""Imports all that a party's process may need, in the process that the tests' parties are forked from."""

from __future__ import annotations

import sys
from pathlib import Path

# The device and the task types of another package: see tests.stack
sys.path.append(str(Path(__file__).parent / "plugin"))

import tests.party_process  # noqa: F401
from workers.runtime import zygote

zygote.load()
