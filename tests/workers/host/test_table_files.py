"""Tables in other files than plain CSV: what comes out is what they say, as text, with the types that they have."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, orc, parquet

from tests.held import most_held
from workers.contract.errors import ConfigError
from workers.host import table_files
from workers.host.party import PartyHost
from workers.host.sources import Source, readable
from workers.host.table_files import FileForm, files_of, states_of
from workers.host.tables import column_types, read_text

MB = 1 << 20
WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "parquet": lambda table, path: parquet.write_table(table, path, row_group_size=2),
    "orc": lambda table, path: orc.write_table(table, path),
    "feather": lambda table, path: feather.write_feather(table, path, chunksize=2),
}
TABLE = pa.table(
    {
        "uid": pa.array(["007", 'a,"b"', None]),
        "n": pa.array([1, None, -(2**40)], pa.int64()),
        "x": pa.array([0.1, 1e20, float("nan")]),
        "yes": pa.array([True, False, None]),
        "day": pa.array([date(2026, 2, 1), None, date(1999, 12, 31)]),
    }
)
EXPECTED = {
    "uid": ["007", 'a,"b"', ""],
    "n": ["1", "", "-1099511627776"],
    "x": ["0.1", "1e+20", "nan"],
    "yes": ["true", "false", ""],
    "day": ["2026-02-01", "", "1999-12-31"],
}
TYPES = {"uid": "str", "n": "int", "x": "float", "yes": "bool", "day": "str"}


def read(path: Path, directory: Path, **form: Any) -> Source:
    more = {name: form.pop(name) for name in ("types", "columns") if name in form}
    directory.mkdir(exist_ok=True)
    [table] = readable({"": Source("people", path, form=FileForm(**form), **more)}, directory).values()
    return table


def text_of(table: Source) -> dict[str, list[str]]:
    columns = list(column_types(table.path, table.name))
    return {name: values.to_pylist() for name, values in read_text(table.path, table.name, columns).items()}


def refusal(path: Path, directory: Path, **form: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        text_of(read(path, directory, **form))
    assert str(path.parent) not in str(caught.value)
    assert "people" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_cells_and_types_are_as_the_file_has_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"secret.{name}"
    WRITERS[name](TABLE, path)
    table = read(path, tmp_path / "work")
    assert text_of(table) == EXPECTED
    assert column_types(table.path, table.name) == TYPES
    assert table.path.stat().st_mode & 0o777 == 0o600
    other = path.rename(tmp_path / "secret.data")
    assert text_of(read(other, tmp_path / "work2", format=name)) == EXPECTED


def test_categories_and_decimals_are_plain_text_too(tmp_path: Path) -> None:
    made = pa.table({"k": pa.array(["a", "b", "a"]).dictionary_encode(), "d": pa.array([Decimal("1.50"), None, None])})
    parquet.write_table(made, tmp_path / "x.parquet")
    table = read(tmp_path / "x.parquet", tmp_path / "work", types={"d": "str"})
    assert text_of(table) == {"k": ["a", "b", "a"], "d": ["1.50", "", ""]}
    assert column_types(table.path, table.name) == {"k": "str", "d": "str"}, "what party.toml declares wins"


def test_a_column_of_lists_is_refused_if_it_is_wanted(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"k": ["a"], "l": [[1, 2]], "b": [b"x"]}), tmp_path / "x.parquet")
    assert "column 'l' of dataset people has lists or records" in refusal(tmp_path / "x.parquet", tmp_path / "work")
    assert text_of(read(tmp_path / "x.parquet", tmp_path / "work2", columns=("k",))) == {"k": ["a"]}


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst", ".lz4"])
def test_csv_may_be_compressed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"people.csv{ending}"
    codec = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}[ending]
    with pa.CompressedOutputStream(str(path), codec) as file:
        file.write("uid;größe\n007;1\n".encode("gb18030"))
    assert text_of(read(path, tmp_path / "work", encoding="gb18030", delimiter=";")) == {"uid": ["007"], "größe": ["1"]}


def test_csv_may_have_no_heading_and_marks_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "people.txt"
    path.write_text("'a;1';1,5;\\N\n'b';-2;x\n")
    form: dict[str, Any] = {"delimiter": ";", "quote": "'", "decimal": ",", "nulls": ("\\N",)}
    form |= {"header": ("k", "price", "n"), "rename": {"k": "uid"}, "types": {"price": "float"}}
    assert text_of(read(path, tmp_path / "work", **form)) == {
        "uid": ["a;1", "b"],
        "price": ["1.5", "-2"],
        "n": ["", "x"],
    }


def test_a_directory_is_one_table_and_its_parts_are_columns(tmp_path: Path) -> None:
    root = tmp_path / "sales"
    for year, number in (("2025", 1), ("2024", 2), ("2024", 3)):
        (root / f"year={year}").mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table({"n": [number]}), root / f"year={year}" / f"{number}.parquet")
    (root / "_SUCCESS").touch()
    (root / "year=2024" / ".hidden.parquet").write_bytes(b"x")
    assert text_of(read(root, tmp_path / "a")) == {"n": ["2", "3", "1"], "year": ["2024", "2024", "2025"]}
    only = read(root, tmp_path / "b", where={"year": ("2024",)}, limit=1, columns=("n",))
    assert text_of(only) == {"n": ["2"]}
    assert "chooses rows by column 'yeer'" in refusal(root, tmp_path / "c", where={"yeer": ("2024",)})


def test_a_pattern_names_several_files_in_order(tmp_path: Path) -> None:
    for name, row in (("b.csv", "2"), ("a.csv", "1"), ("c.csv.gz", "3")):
        content = f"uid\n{row}\n".encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert text_of(read(tmp_path / "*.csv*", tmp_path / "work")) == {"uid": ["1", "2", "3"]}
    (tmp_path / "d.csv").write_text("uid,more\n4,5\n")
    assert "the files of dataset people have unlike columns: more" in refusal(tmp_path / "*.csv", tmp_path / "w2")
    assert "are missing on this host" in refusal(tmp_path / "*.none", tmp_path / "w3")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("what", ["cut off", "text"])
def test_a_file_that_cannot_be_read_is_told_without_what_is_in_it(tmp_path: Path, name: str, what: str) -> None:
    path = tmp_path / f"secret.{name}"
    WRITERS[name](TABLE, path)
    path.write_bytes(path.read_bytes()[:-40] if what == "cut off" else b"uid,secret\n007,1\n")
    said = refusal(path, tmp_path / "work")
    assert f"a file of dataset people cannot be read as {name.capitalize()}" in said
    assert "secret" not in said


def test_a_file_that_is_edited_added_or_removed_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("uid\n1\n")
    pattern, form = tmp_path / "*.csv", FileForm()
    states = [states_of(pattern, form)]
    (tmp_path / "b.csv").write_text("uid\n2\n")
    states.append(states_of(pattern, form))
    os.utime(tmp_path / "a.csv", (1, 1))
    states.append(states_of(pattern, form))
    (tmp_path / "b.csv").unlink()
    states.append(states_of(pattern, form))
    assert len({str(state) for state in states}) == 4
    assert [file.name for file in files_of(pattern, form)] == ["a.csv"]


def test_large_files_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, path = 2_000_000, tmp_path / "x.parquet"
    made = pa.table({"n": np.arange(rows), "k": [f"key-{i:026}" for i in range(rows)]})
    parquet.write_table(made, path, row_group_size=100_000)
    size = made.nbytes
    del made
    held = most_held(lambda: read(path, tmp_path / "work"))
    assert sum(held) < 60 * MB < size
    assert table_files._ROWS < 100_000


def test_party_toml_says_the_form(tmp_path: Path) -> None:
    entry = (
        'path = "in"\nformat = "csv"\nheader = ["a", "b"]\nquote = "\'"\ndecimal = ","\nnulls = ["\\\\N"]\nlimit = 5\n'
        'rename = {a = "uid"}\nwhere = {uid = ["1"]}\ntypes = {b = "float"}\n'
    )
    toml = f'party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n[datasets.x]\n{entry}'
    path = tmp_path / "party.toml"
    path.write_text(toml)
    form = PartyHost.load(path).dataset("x").form
    assert form == FileForm(
        format="csv", header=("a", "b"), quote="'", decimal=",", nulls=("\\N",), rename={"a": "uid"},
        where={"uid": ("1",)}, limit=5,
    )  # fmt: skip
    for old, new, said in (
        ('types = {b = "float"}', "", "decimal needs types"),
        ('{a = "uid"}', '{a = "x", b = "x"}', "two columns the same name"),
        ("limit = 5", "limit = 0", "limit"),
        ('"csv"', '"xlsx"', "format"),
    ):
        path.write_text(toml.replace(old, new))
        with pytest.raises(ConfigError, match=said):
            PartyHost.load(path)
