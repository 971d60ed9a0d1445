"""Compares many random tables with the clear: ``make fuzz``, with FUZZ_CASES and FUZZ_SEED for how many and which.

Prints how many cases of each subject ran, and the smallest one that it could find of each that differs.
"""

from __future__ import annotations

import os
import sys

import pytest

if __name__ == "__main__":
    os.environ.setdefault("FUZZ_CASES", "2000")
    tests = "tests/workers/executors/test_differential.py"
    sys.exit(pytest.main([tests, "-k", "random", "-s", "-p", "no:cacheprovider", *sys.argv[1:]]))
