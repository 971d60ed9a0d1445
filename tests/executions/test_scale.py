"""A site with 100,000 party runs: everything takes as many queries as on a small one, and none goes through all rows.

On SQLite only the plans are looked at, on a few rows: it makes them without looking at how many there are. How long it
takes says ``make scale``; here nothing is timed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection as database
from django.db import transaction
from django.test.utils import CaptureQueriesContext
from redis import Redis

from executions.admin.read_only import MOST_LISTED
from tests.benchmarks.filled import Size, fill
from tests.benchmarks.scale_cases import cases

SMALL, LARGE = 1000, {"postgresql": 50_000, "sqlite": 1000}
#: Tables that grow with what is run.
GROWING = (
    "execution",
    "partyrun",
    "executionevent",
    "statechange",
    "preflight",
    "partycheck",
    "noderun",
    "tick",
    "label",
)
#: How SQLite says that it goes through all rows, without an index.
SCAN = re.compile(rf"SCAN executions_({'|'.join(GROWING)})( AS \w+)?")
#: What has to do with configurations alone, and further orders of the same lists: ``make scale`` measures these, too.
LEFT_OUT = re.compile(
    "list by|largest|(admin|API), (SPU|HEU|spu|cluster|dataset|user|auth|schedule).*: (list|search|form)"
)
#: A statement may touch so many rows of them: those of the longest list with what a filter leaves out on the way, and
#: the day's for the front page.
MOST_TOUCHED = MOST_LISTED * 5 // 4


def measured(connection: Redis, executions: int, explained: bool) -> dict[str, tuple[int, list[str]]]:
    """The number of queries of each case, and, explained, what is wrong with how they are answered."""
    connection.flushdb()
    found = {}
    with transaction.atomic():
        fill(Size.of(executions))
        for case in cases(connection):
            if LEFT_OUT.search(case.what):
                continue
            case.prepare()
            with CaptureQueriesContext(database) as queries:
                case.run()
            statements = [query["sql"] for query in queries]
            found[case.what] = (len(statements), too_slow(statements) if explained else [])
        transaction.set_rollback(True)
    return found


def too_slow(statements: list[str]) -> list[str]:
    return [f"{why}: {sql[:1000]}" for sql in statements for why in too_much(sql)]


def too_much(sql: str) -> Iterator[str]:
    """Why the database's plan for a statement goes through all rows of a growing table; nothing if it does not."""
    if not sql.startswith("SELECT") or not any(f"executions_{name}" in sql for name in GROWING):
        return
    with database.cursor() as cursor:
        if database.vendor == "sqlite":
            # its text has no quotes around what is not a number: as good for a plan
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            for _, _, _, step in cursor.fetchall():
                if SCAN.fullmatch(step):
                    yield step
        else:
            cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql.removesuffix(' FOR UPDATE')}")
            (plan,) = cursor.fetchone()
            yield from touched((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])


def touched(node: dict[str, Any]) -> Iterator[str]:
    """The steps of a plan that touch too many rows of a growing table."""
    if node.get("Relation Name", "").removeprefix("executions_") in GROWING:
        rows = node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        if rows > MOST_TOUCHED:
            yield f"{node['Node Type']} of {rows:,.0f} rows of {node['Relation Name']}"
    for part in node.get("Plans", ()):
        yield from touched(part)


@pytest.mark.no_cover  # it takes half as long again with it, and other tests cover the same
@pytest.mark.django_db
def test_nothing_goes_through_all_that_was_ever_run(connection: Redis) -> None:
    many = measured(connection, LARGE[database.vendor], explained=True)
    slow = {what: found for what, (_, found) in many.items() if found}
    assert not slow, "\n".join(f"{what}: {step}" for what, steps in slow.items() for step in steps)
    if database.vendor == "sqlite":
        return
    few = measured(connection, SMALL, explained=False)
    assert few.keys() == many.keys()
    # A step may come upon an execution more or less that is due for something
    more = {what: (few[what][0], many[what][0]) for what in few if many[what][0] > few[what][0] + 3}
    assert more == {}
