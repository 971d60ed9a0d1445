"""``make scale``: how long everything takes on a site with a million executions, over one with a thousand.

``ARGS="100000"`` for another number of executions, ``ARGS="API, party"`` for lines that this regular expression finds,
``--why`` for the slowest statement of each line beyond the bounds; ``TEST_DATABASE=sqlite`` instead of PostgreSQL.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.benchmarks.site import own_site

SMALL = 1000
FULL = {"postgresql": 1_000_000, "sqlite": 300_000}
#: Bounds of each line: seconds, and the ratio to the small site; it says nothing where it takes less than that.
SECONDS, RATIO, NOTHING = 0.3, 1.5, 0.005
#: Each is run so often at most, and not for longer. The fastest counts: this machine may be busy with other work.
TIMES, LONGEST = 5, 1.0


class Measured(NamedTuple):
    seconds: float
    queries: int
    #: The slowest statement, and its seconds.
    slowest: tuple[float, str]


def measure(only: str, before: Mapping[str, Measured]) -> dict[str, Measured]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from executions.redis import redis_connection
    from tests.benchmarks.scale_cases import cases

    found = {}
    for case in cases(redis_connection()):
        if not re.search(only, case.what):
            continue
        case.prepare()
        with CaptureQueriesContext(connection) as queries:
            case.run()
        number = len(queries)  # now: the next request forgets them
        slowest = max(((float(q["time"]), q["sql"]) for q in queries), default=(0.0, ""))
        times: list[float] = []
        enough = before[case.what].seconds * RATIO if case.what in before else 0
        # Longer where it seems slow: perhaps something else had the processor
        while sum(times) < LONGEST and (len(times) < TIMES or 0 < enough < min(times) < SECONDS):
            case.prepare()
            started = time.perf_counter()
            case.run()
            times.append(time.perf_counter() - started)
        found[case.what] = Measured(min(times), number, slowest)
        if min(times) > SECONDS:
            print(f"  {case.what}: {min(times):.2f} s", flush=True)
    return found


def main(console: Console, full: int, only: str) -> int:
    """Measure both sites and print the table. Returns the number of lines beyond the bounds."""
    from django.core.management import call_command

    from executions.redis import redis_connection
    from tests.benchmarks.filled import Size, fill

    logging.getLogger("django.request").setLevel(logging.ERROR)  # refusals are measured, too
    measured: list[dict[str, Measured]] = []
    for executions in (SMALL, full):
        call_command("flush", interactive=False, verbosity=0)
        redis_connection().flushdb()
        started = time.perf_counter()
        fill(Size.of(executions))
        console.print(f"{executions:,} executions: filled in {time.perf_counter() - started:.0f} s")
        measured.append(measure(only, measured[0] if measured else {}))
    few, many = measured
    table = Table("what", f"ms at {SMALL:,}", f"ms at {full:,}", "ratio", "queries")
    beyond = []
    for what in few:
        small, large = few[what], many[what]
        ratio = large.seconds / small.seconds
        slow = large.seconds > SECONDS or (ratio > RATIO and large.seconds > NOTHING)
        wrong = slow or large.queries > small.queries + 1  # a page that is not full needs no count
        queries = f"{small.queries}" if small.queries == large.queries else f"{small.queries}, {large.queries}"
        figures = (f"{1000 * small.seconds:.1f}", f"{1000 * large.seconds:.1f}", f"{ratio:.1f}", queries)
        table.add_row(what, *figures, style="bold red" if wrong else "")
        if wrong:
            beyond.append((what, *figures, f"{large.slowest[0]:.3f} s: {large.slowest[1][:3000]}"))
    console.print(table)
    for what, *_, slowest in beyond if "--why" in sys.argv else ():
        console.print(f"[bold]{what}[/]", slowest, markup=True, highlight=False)
    console.print(f"{len(few)} lines, {len(beyond)} beyond {SECONDS} s, {RATIO} times, or with more queries")
    return len(beyond)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    database = os.environ.get("TEST_DATABASE", "sqlite")  # tests.stack has read it
    numbers = [int(word.replace(",", "")) for word in sys.argv[1:] if word.replace(",", "").isdigit()]
    words = [word for word in sys.argv[1:] if not word.startswith("--") and not word.replace(",", "").isdigit()]
    with own_site():
        main(Console(width=200), numbers[0] if numbers else FULL[database], " ".join(words))
