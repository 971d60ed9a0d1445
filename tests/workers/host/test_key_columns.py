"""Keys that repeat are found, in little memory: by hashes, equal ones for equal rows alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.held import most_held
from workers.contract.errors import ConfigError
from workers.host import key_columns
from workers.host.key_columns import check_keys, hashed

TEXTS = st.text(st.sampled_from("ab\0é7"), max_size=20)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=50), st.data())
def test_rows_have_the_same_hash_if_they_are_the_same(rows: list[tuple[str, str]], data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(rows) - 1))
    columns = [pa.array(texts, pa.string()).slice(begin) for texts in zip(*rows, strict=True)]
    found = hashed(columns).tolist()
    assert len(set(zip(found, rows[begin:], strict=True))) == len(set(found)) == len(set(rows[begin:]))


@pytest.mark.parametrize("form", ["{}", "{:04}", "key-{:09}", "{:020}", "{}-of-a-customer", "2024-01-01T00:00:{:012}"])
def test_keys_as_tables_have_them_do_not_have_the_hash_of_another(form: str) -> None:
    keys = pa.array([form.format(number) for number in range(300_000)])
    assert len(np.unique(hashed([keys]))) == len(keys)


def test_there_are_as_many_hashes_as_rows() -> None:
    assert hashed([pa.array([], pa.string())]).tolist() == []
    assert len(set(hashed([pa.array(["", "", "a"])]).tolist())) == 2


MB = 1 << 20


def test_a_table_is_checked_in_little_memory(tmp_path: Path) -> None:
    rows, path = 1_500_000, tmp_path / "people.csv"
    content = b"k\n" + b"".join(b"key-%026d\n" % row for row in range(rows))
    path.write_bytes(content)
    assert sum(most_held(lambda: check_keys(path, "people", ["k"]))) < 80 * MB  # as a whole it takes three times that
    path.write_bytes(content + b"key-%026d\n" % 77)
    with pytest.raises(ConfigError, match="has 1 rows that repeat the k of another row"):
        check_keys(path, "people", ["k"])


def test_unlike_keys_with_the_same_hash_are_not_taken_for_a_repeated_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("k\na\nb\n")
    monkeypatch.setattr(key_columns, "hashed", lambda columns: np.zeros(len(columns[0]), np.uint64))
    check_keys(path, "people", ["k"])
