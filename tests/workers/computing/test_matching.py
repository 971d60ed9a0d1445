"""Keys that go into PSI and rows that come out: as they are written in the table, in blocks, whatever their number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.held import most_held
from workers.computing.matching import KeyTable, _crossed
from workers.contract.errors import AlgorithmError, ConfigError

MB = 1 << 20


def made(directory: Path, content: bytes, keys: Sequence[str] = ("k",)) -> KeyTable:
    path = directory / "table.csv"
    path.write_bytes(content)
    return KeyTable(path, "people", keys, directory)


def written(table: KeyTable, rows: Sequence[int], nothing: bytes = b"") -> bytes:
    target = table.path.with_name("output.csv")
    table.write(np.array(rows, np.int64), target, nothing)
    return target.read_bytes()


# --- keys


@pytest.mark.parametrize(
    ("content", "keys", "expected"),
    [
        (b"k,v\n007,1\nNA,2\n 1 ,3\n", ["k"], "007,0\nNA,1\n 1 ,2\n"),
        ('k,v\r\n"Müller, ""A""",1\r\n50%,2\r\n'.encode(), ["k"], "Müller%2C %22A%22,0\n50%25,1\n"),
        (b"v,k\n1,a\n2,b", ["k", "v"], "a%/1,0\nb%/2,1\n"),
        (b"k\n\na\n\n\nb\n\n", ["k"], "a,0\nb,1\n"),
    ],
)
def test_a_key_is_written_as_it_is_but_for_what_a_reader_would_take_for_something_else(
    tmp_path: Path, content: bytes, keys: list[str], expected: str
) -> None:
    assert made(tmp_path, content, keys).path.read_text() == "key,row\n" + expected


def test_keys_are_written_in_blocks(tmp_path: Path) -> None:
    rows = 1_500_000
    content = b"k\n" + b"".join(b"key-%026d\n" % row for row in range(rows))
    (tmp_path / "table.csv").write_bytes(content)
    made_of: list[KeyTable] = []
    held = most_held(lambda: made_of.append(KeyTable(tmp_path / "table.csv", "people", ["k"], tmp_path)))
    assert sum(held) < 90 * MB  # as a whole it takes twice that
    with made_of[0].path.open("rb") as file:
        assert file.readlines()[-1] == b"key-%026d,%d\n" % (rows - 1, rows - 1)


# --- rows


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_rows_are_written_as_they_are(tmp_path: Path, end: bytes, last: bool) -> None:
    lines = [b'"k","v, w"', '7,"ü, ""x"""'.encode(), b"007,", b" NA ,\xff", b'"",1.50']
    table = made(tmp_path, end.join(lines) + (end if last else b""))
    assert written(table, [3, 0, 2, 0, 1]) == b"\n".join([lines[i] for i in (0, 4, 1, 3, 1, 2)]) + b"\n"
    assert written(table, []) == lines[0] + b"\n"


def test_lines_with_nothing_on_them_are_no_rows(tmp_path: Path) -> None:
    table = made(tmp_path, b"\n\r\nk,v\n\na,1\n\r\n\nb,2\n\n")
    assert written(table, [1, 0, 1]) == b"k,v\nb,2\na,1\nb,2\n"


@pytest.mark.parametrize(
    ("heading", "nothing", "expected"),
    [(b"k,v", b"", b","), (b"k", b"", b'""'), (b"k", b"NULL", b"NULL"), (b'k,"v,w"', b"NULL", b"NULL,NULL")],
)
def test_a_row_that_the_party_does_not_have_is_an_empty_one(
    tmp_path: Path, heading: bytes, nothing: bytes, expected: bytes
) -> None:
    row = b",".join([b"a"] * (1 + heading.count(b"k,")))
    table = made(tmp_path, heading + b"\n" + row + b"\n")
    assert written(table, [-1, 0, -1], nothing) == b"\n".join([heading, expected, row, expected, b""])


@pytest.mark.parametrize("content", [b"k,v\na,1\n", b"k,v\na,1\nb,2\nc,3\n", b"", b"\n\n"])
def test_a_table_that_was_changed_meanwhile_is_refused(tmp_path: Path, content: bytes) -> None:
    table = made(tmp_path, b"k,v\na,1\nb,2\n")
    table.table.write_bytes(content)
    with pytest.raises(ConfigError, match="was changed meanwhile"):
        written(table, [0])


def test_a_line_break_inside_quotes_is_refused(tmp_path: Path) -> None:
    table = made(tmp_path, b'k,v\na,"1\n2"\nb,3\n')
    with pytest.raises(ConfigError, match="dataset people has line breaks inside quotes"):
        written(table, [0])


def test_rows_are_written_in_blocks_however_long_they_are(tmp_path: Path) -> None:
    rows, length = 1000, 60_000
    table = made(tmp_path, b"k,v\n" + b"".join(b"%d,%s\n" % (row, b"x" * length) for row in range(rows)))
    order = np.arange(rows)[::-1]
    assert sum(most_held(lambda: table.write(order, tmp_path / "output.csv"))) < 20 * MB < rows * length / 2
    with (tmp_path / "output.csv").open("rb") as file:
        assert [line.partition(b",")[0] for line in file][1:] == [b"%d" % row for row in order]


# --- pairs


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rows_of_equal_keys_become_all_pairs(data: st.DataObject) -> None:
    """As SecretFlow writes both parties' rows: each as often as the other party has its key, one after the other."""
    first, second, keys, number = [], [], [], 0
    pairs: set[tuple[int, int]] = set()
    for key in range(data.draw(st.integers(0, 6))):
        theirs, own = (data.draw(st.integers(1, 4)) for _ in range(2))
        here, there = range(number, number + own), range(number, number + theirs)
        first += [row for row in there for _ in here]
        second += [row for row in here for _ in there]
        keys += [str(key)] * own * theirs
        pairs |= set(product(there, here))
        number += max(own, theirs)
    for _ in range(data.draw(st.integers(0, 3))):  # the other's, which this party does not have
        first, second = [*first, number], [*second, -1]
        keys.append(data.draw(st.sampled_from(["a", "b"])))
        pairs |= {(number, -1)}
        number += 1
    cut = data.draw(st.integers(0, len(keys)))
    texts = pa.chunked_array([keys[:cut], keys[cut:]], pa.string())
    found = _crossed(np.array(second, np.int64), texts).tolist()
    assert len(found) == len(pairs)
    assert set(zip(first, found, strict=True)) == pairs


def test_rows_in_an_order_that_is_not_known_are_refused() -> None:
    with pytest.raises(AlgorithmError, match="in an order that is not known"):
        _crossed(np.array([1, 1, 2]), pa.chunked_array([["k", "k", "k"]]))
