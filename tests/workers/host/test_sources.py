"""Tables in other encodings, with other delimiters, with types that the party declares: as executors read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workers.computing.cells import read_cells, read_numbers
from workers.contract.errors import ConfigError
from workers.host.sources import Source, needs_copy, readable, types_of_output
from workers.host.table_files import FileForm
from workers.host.tables import column_types, count_rows, read_columns, read_text

NAMES = {"größe": ["1", "2"], "名": ["a,b", 'c"d']}


def read(directory: Path, content: bytes, **form: Any) -> Source:
    path = directory / "secret-place.csv"
    path.write_bytes(content)
    more = {name: form.pop(name) for name in ("types", "columns") if name in form}
    [table] = readable({"": Source("patients", path, form=FileForm(**form), **more)}, directory).values()
    return table


def refusal(directory: Path, content: bytes, **form: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        text_of(read(directory, content, **form))
    assert "secret-place" not in str(caught.value)
    assert "patients" in str(caught.value)
    return str(caught.value)


def text_of(table: Source) -> dict[str, list[str]]:
    columns = list(column_types(table.path, table.name))
    return {name: values.to_pylist() for name, values in read_text(table.path, table.name, columns).items()}


# --- the form of the file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "\x01"])
def test_it_reads_what_party_toml_says(tmp_path: Path, encoding: str, delimiter: str) -> None:
    rows = [["größe", "名", "x"], ["1", '"a,b"', "007"], ["2", '"c""d"', ""]]
    content = "".join(delimiter.join(row) + "\r\n" for row in rows).encode(encoding)
    table = read(tmp_path, content, encoding=encoding, delimiter=delimiter)
    assert text_of(table) == {**NAMES, "x": ["007", ""]}
    assert table.form == FileForm()
    assert table.path.read_bytes().startswith("größe,名,x\n".encode()) or table.path.read_bytes().startswith(b'"gr')
    assert table.path.stat().st_mode & 0o777 == 0o600


def test_it_takes_a_byte_order_mark_away(tmp_path: Path) -> None:
    table = read(tmp_path, b"\xef\xbb\xbfuid,x\r\na,1\r\n")
    assert table.path.read_bytes() == b"uid,x\r\na,1\r\n"


def test_it_copies_no_plain_table(tmp_path: Path) -> None:
    table = read(tmp_path, b"uid,x\na,1\n", types={"x": "float"})
    assert table.path == tmp_path / "secret-place.csv"
    assert not needs_copy(table)


def test_it_converts_a_table_once(tmp_path: Path) -> None:
    path = tmp_path / "secret-place.csv"
    path.write_bytes(b"a;b\n1;2\n")
    source = Source("patients", path, form=FileForm(delimiter=";"))
    found = readable({"": source, "test": source}, tmp_path)
    assert found[""].path == found["test"].path
    assert len(list(tmp_path.iterdir())) == 2


def test_it_converts_a_large_table_whole(tmp_path: Path) -> None:
    rows = 400_000  # of several blocks
    table = read(tmp_path, ("a;b\n" + "1;张\n" * rows).encode("gb18030"), encoding="gb18030", delimiter=";")
    assert count_rows(table.path, table.name) == rows
    assert set(text_of(table)["b"]) == {"张"}


def test_it_keeps_a_column_of_empty_cells_alone(tmp_path: Path) -> None:
    table = read(tmp_path, 'x\n""\n1\n'.encode("utf-16"), encoding="utf-16")
    assert text_of(table) == {"x": ["", "1"]}


SAVE = "save it as UTF-8, or set encoding = "
CHINESE = "姓名,年龄\n张三,30\n李四,41\n"
GERMAN = "größe,straße\n1,Müllerstraße\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CHINESE.encode("gbk"), f'looks like GBK; {SAVE}"gb18030" for this dataset in party.toml'),
        (("name,x\n" + "a,1\n" * 100_000 + "张三,30\n").encode("gbk"), f'looks like GBK; {SAVE}"gb18030"'),
        (GERMAN.encode("latin-1"), f'looks like Windows-1252; {SAVE}"windows-1252"'),
        ("prix\n5 €\n".encode("windows-1252"), f'looks like Windows-1252; {SAVE}"windows-1252"'),
        (CHINESE.encode("utf-16"), f'looks like UTF-16; {SAVE}"utf-16"'),
        ("name,x\na,1\n".encode("utf-16-le"), f'looks like UTF-16; {SAVE}"utf-16-le"'),
        ("name,x\na,1\n".encode("utf-16-be"), f'looks like UTF-16; {SAVE}"utf-16-be"'),
        (b"id;a\nk1;1\nk2;2\n", 'separated by semicolons; save it with commas, or set delimiter = ";"'),
        (b"id;a\nk1;1,5\nk2;2,5\n", 'separated by semicolons; save it with commas, or set delimiter = ";"'),
        (b"id\ta\nk1\t1\n", 'separated by tabs; save it with commas, or set delimiter = "\\t"'),
        (b"id|a|b\nk1|1|2\n", 'separated by vertical bars; save it with commas, or set delimiter = "|"'),
    ],
)
def test_it_says_what_a_file_looks_like(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refusal(tmp_path, content)


@pytest.mark.parametrize("content", [b"id\na;b\nc\n", b"a|b\n1\n2\n", b"id,x\na;b,1\n", b'id\n"a;b"\n'])
def test_it_sees_no_delimiter_where_there_is_none(tmp_path: Path, content: bytes) -> None:
    assert text_of(read(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "form", "words"),
    [
        (CHINESE.encode("gbk"), {"encoding": "utf-8"}, "is not utf-8 throughout; the file looks like GBK"),
        (GERMAN.encode("latin-1"), {"encoding": "utf-16"}, "patients"),
        (b"a;b\n1;2;3\n", {"delimiter": ";"}, "does not fit: a line has 3 values for 2 columns"),
        (b"a;b\n1;2\n", {"delimiter": "|"}, "has one column alone, 'a;b'"),
    ],
)
def test_it_says_that_what_party_toml_says_does_not_fit(
    tmp_path: Path, content: bytes, form: dict[str, str], words: str
) -> None:
    assert words in refusal(tmp_path, content, **form)


# --- declared types


def test_a_column_of_digits_that_is_declared_text_is_text(tmp_path: Path) -> None:
    table = read(tmp_path, b"card,x\n7,1\n8,2\n", types={"card": "str"})
    assert column_types(table.path, table.name) == {"card": "str", "x": "int"}
    assert read_cells(table.path, table.name, ["card"])["card"].numbers is None
    for call in (read_columns, read_numbers):
        with pytest.raises(ConfigError, match="column 'card' of dataset patients is not numeric: its declared type"):
            call(table.path, table.name, ["card"])


def test_codes_that_are_declared_numbers_are_numbers(tmp_path: Path) -> None:
    table = read(tmp_path, b"a,b\n007,100000000000000000000\n8,1\n", types={"a": "int", "b": "float"})
    assert column_types(table.path, table.name) == {"a": "int", "b": "float"}
    assert read_columns(table.path, table.name, ["a", "b"]).tolist() == [[7.0, 1e20], [8.0, 1.0]]


def test_types_hold_for_the_tables_of_one_run_alone(tmp_path: Path) -> None:
    table = read(tmp_path, b"card\n7\n", types={"card": "str"})
    read(tmp_path, b"card\n7\n")
    assert column_types(table.path, table.name) == {"card": "int"}


@pytest.mark.parametrize(
    ("content", "kind", "line"),
    [
        (b"x,a\n1,1\n1,\n1,NA\n1, 7 \n1,-0\n", "int", None),
        (b"x,a\n1,1\n1,2.0\n", "int", 3),
        (b"x,a\n1,1\n\n\n1,x\n", "int", 5),
        (b"x,a\n1,9223372036854775807\n1,9223372036854775808\n", "int", 3),
        (b"x,a\n1,1e5\n1,.5\n1,-5.\n1,nan\n1,inf\n", "float", None),
        (b"x,a\n" + b"1,1\n" * 400_000 + b"1,1;5\n", "float", 400_002),
        (b"x,a\n1,true\n1,FALSE\n1,0\n1,\n", "bool", None),
        (b"x,a\n1,true\n1,yes\n", "bool", 3),
        (b"x,a\n1,true\n1,7\n", "str", None),
    ],
)  # fmt: skip
def test_it_says_which_line_does_not_fit_a_declared_type(
    tmp_path: Path, content: bytes, kind: str, line: int | None
) -> None:
    if line is None:
        assert column_types((table := read(tmp_path, content, types={"a": kind})).path, table.name)["a"] == kind
        return
    text = refusal(tmp_path, content, types={"a": kind})
    assert text.startswith(f"column 'a' of dataset patients is declared {kind}, and line {line} has something else")
    assert text.endswith("correct the value, or the type in party.toml")


@pytest.mark.parametrize(
    ("kind", "values", "found"),
    [
        ("str", "7,8", "str"),
        ("str", "true,false", "str"),
        ("int", "007,008", "int"),
        ("float", "7,8", "float"),
        ("bool", "0,1", "bool"),
        # What text and fractions are stays: the table is not as registered
        ("int", "x,y", "str"),
        ("int", "1.5,2", "float"),
    ],
)
def test_a_registered_type_holds_where_the_values_can_be_of_it(
    tmp_path: Path, kind: str, values: str, found: str
) -> None:
    path = tmp_path / "secret-place.csv"
    path.write_text("x,a\n" + "".join(f"1,{value}\n" for value in values.split(",")))
    [table] = readable({"": Source("patients", path)}, tmp_path, {"patients": {"a": kind, "gone": "str"}}).values()
    assert column_types(path, "patients") == {"x": "int", "a": found}
    assert types_of_output(path, "made", [table], {})["a"] == found, "and in what is made of it"


def test_party_toml_goes_before_what_is_registered(tmp_path: Path) -> None:
    path = tmp_path / "secret-place.csv"
    path.write_text("x,a\n1,7\n1,9\n")
    source = Source("patients", path, types={"a": "float"})
    readable({"": source}, tmp_path, {"patients": {"a": "bool"}})
    assert column_types(path, "patients")["a"] == "float"
    with pytest.raises(ConfigError, match=r"column 'a' of dataset patients is registered as bool, and line 2 has .*; "
                       r"correct the value, or the type on the dataset's page of the control plane"):  # fmt: skip
        readable({"": Source("patients", path)}, tmp_path, {"patients": {"a": "bool"}})


def test_it_says_that_a_declared_column_is_not_there(tmp_path: Path) -> None:
    text = refusal(tmp_path, b"card,x\n7,1\n", types={"crad": "str"})
    assert text.startswith(
        "party.toml declares a type for column 'crad', which dataset patients does not have; did you"
    )


# --- types of what a run makes


@pytest.mark.parametrize(
    ("made", "known", "types"),
    [
        ("id,n,b\n", {}, {"id": "str", "n": "float", "b": "bool"}),
        ("id,n,b\n7,2,\n", {}, {"id": "str", "n": "float", "b": "bool"}),
        # Made anew, under the old name
        ("id,n,b\n70,1.25,true\n", {}, {"id": "int", "n": "float", "b": "bool"}),
        ("id,n,b\n7,x,true\n", {}, {"id": "str", "n": "str", "b": "bool"}),
        ("id,n,b\n7,2,true\n", {"id": "int"}, {"id": "int", "n": "float", "b": "bool"}),
        ("id,new\n7,1\n", {}, {"id": "str", "new": "int"}),
    ],
)
def test_an_output_keeps_the_types_of_the_columns_it_was_made_of(
    tmp_path: Path, made: str, known: dict[str, str], types: dict[str, str]
) -> None:
    table = read(tmp_path, b"id,n,b\n7,1.5,true\n7X,2,false\n")
    path = tmp_path / "made.csv"
    path.write_text(made)
    assert types_of_output(path, "made", [table], known) == types
