"""A party's own tables: what is wrong with one is said by name of the dataset, never by path or content."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.contract.errors import ConfigError
from workers.host.key_columns import check_keys
from workers.host.tables import column_types, read_columns

#: More than the one block of a file from which types are inferred.
BLOCK_ROWS = 300_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "secret-place.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


Table = Callable[[str | bytes], Path]


def refusal(call: Callable[..., Any], path: Path, *args: Any) -> str:
    """The text of the ConfigError, which names the dataset and no path."""
    with pytest.raises(ConfigError) as caught:
        call(path, "patients", *args)
    text = str(caught.value)
    assert "patients" in text
    assert "/" not in text
    assert "secret-place" not in text
    return text


# --- types


def test_it_infers_the_types_of_the_columns(table: Table) -> None:
    path = table("i,neg,f,e,s,b,day,empty,mixed\n1,-2,1.5,1e5,x,true,2020-01-01,,1\n2,3,2,2,y,false,2020-01-02,,z\n")
    assert column_types(path, "patients") == {
        "i": "int",
        "neg": "int",
        "f": "float",
        "e": "float",
        "s": "str",
        "b": "bool",
        "day": "str",
        "empty": "str",
        "mixed": "str",
    }


@pytest.mark.parametrize(
    ("content", "types"),
    [
        (b"\xef\xbb\xbfuid,x\na,1\n", {"uid": "str", "x": "int"}),
        (b"uid,x\r\na,1\r\n", {"uid": "str", "x": "int"}),
        (b'"uid","x, y"\n"a\nb",1\n', {"uid": "str", "x, y": "int"}),
        (b"uid,x\n", {"uid": "str", "x": "str"}),
        ("größe,名\n1,a\n".encode(), {"größe": "int", "名": "str"}),
        (b"uid,x\na\xff,1\n", {"uid": "str", "x": "int"}),
    ],
    ids=["BOM", "CRLF", "quoted", "no rows", "names", "a value that is not UTF-8"],
)
def test_it_reads_the_header_line(table: Table, content: bytes, types: dict[str, str]) -> None:
    assert column_types(table(content), "patients") == types


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\n\n\n",
        b"a,b",
        b"a,b\n1,2\n1,2,3\n",
        b'a,b\n"x,2\n3,4\n',
        b"\xff\xfe,b\n1,2\n",
        "a,b\n1,2\n".encode("utf-16"),
        bytes(range(256)) * 10,
        b"\0" * 100,
        b"PK\x03\x04" + bytes(200),
    ],
    ids=lambda content: repr(content[:12]),
)
@pytest.mark.parametrize(
    "call",
    [
        column_types,
        lambda path, name: read_columns(path, name, ["a"]),
        lambda path, name: check_keys(path, name, ["a"]),
    ],
    ids=["column_types", "read_columns", "check_keys"],
)
def test_it_says_that_a_file_is_no_csv(table: Table, content: bytes, call: Callable[..., Any]) -> None:
    assert "cannot be read as CSV with a header line" in refusal(call, table(content))


@pytest.mark.parametrize("name", ["gone.csv", "x" * 300, "a\0b", "gone/deeper.csv", "."])
@pytest.mark.parametrize(
    "call",
    [
        column_types,
        lambda path, name: read_columns(path, name, ["a"]),
        lambda path, name: check_keys(path, name, ["a"]),
    ],
    ids=["column_types", "read_columns", "check_keys"],
)
def test_it_says_that_the_file_is_missing(tmp_path: Path, name: str, call: Callable[..., Any]) -> None:
    text = refusal(call, tmp_path / name)
    assert text == "the file of dataset patients is missing on this host; check party.toml"


def test_it_says_the_same_of_a_file_that_may_not_be_looked_at(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied", "/secret-place")

    path = table("a\n1\n")
    # root may look at everything
    monkeypatch.setattr(Path, "is_file", refuse)
    assert "is missing on this host" in refusal(column_types, path)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("a,a", "dataset patients has column 'a' twice; give each column a name of its own"),
        ("a,b,a", "dataset patients has column 'a' twice; give each column a name of its own"),
        ('"a",a', "dataset patients has column 'a' twice; give each column a name of its own"),
        (",a,b", "dataset patients has no heading over column 1 of 3; name the column, or leave it out (pandas writes"),
        ("a,,", "dataset patients has no heading over column 2 of 3; name the column, or leave it out"),
        ("a, ,b", "dataset patients has no heading over column 2 of 3; name the column, or leave it out"),
    ],
)
def test_it_says_which_heading_is_missing_or_there_twice(table: Table, header: str, text: str) -> None:
    path = table(f"{header}\n{','.join('1' * (header.count(',') + 1))}\n")
    for call in (column_types, lambda p, d: read_columns(p, d, ["a"]), lambda p, d: check_keys(p, d, ["a"])):
        assert refusal(call, path).startswith(text)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["7", "007"], "str"),
        (["7", '"007"', "8"], "str"),
        (["7", " 007"], "str"),
        (["-07", "1"], "str"),
        (["00", "1"], "str"),
        (["0", "1"], "int"),
        (["0.5", "-0.5", "0"], "float"),
        (["0e5", "1"], "float"),
        (["1.005", "2.0000000000000000000000"], "float"),
        (["9223372036854775807", "-9223372036854775808"], "int"),
        (["6222021234567890123", "9223372036854775808"], "str"),
        (["62220212345678901234"], "str"),
        (["100000000000000000000", "0.5"], "float"),
        (["2020-01-05", "2021-01-06"], "str"),
        (["7"] * BLOCK_ROWS + ["007"], "str"),
        (["7"] * BLOCK_ROWS + ["9223372036854775808"], "str"),
    ],
    ids=lambda value: repr(value[-1]) if isinstance(value, list) else value,
)
@pytest.mark.parametrize("layout", ["{},x", "x,{}", "{}"])
def test_it_takes_codes_for_text(table: Table, layout: str, cells: list[str], kind: str) -> None:
    path = table("".join(layout.format(cell) + "\n" for cell in ["c", *cells]))
    assert column_types(path, "patients")["c"] == kind


def test_it_says_that_codes_are_no_numbers_and_how_to_declare_them(table: Table) -> None:
    text = refusal(read_columns, table("a,b\n007,1\n8,2\n"), ["b", "a"])
    assert text == (
        "column 'a' of dataset patients is not numeric: it has codes, such as 007 or whole numbers beyond 64 bits; if "
        "they are quantities, declare the column int or float under types of this dataset in party.toml"
    )


# --- numeric columns


def test_it_reads_numbers_in_the_order_asked_for(table: Table) -> None:
    path = table("uid,a,b,c,d\nx,1,2.5,true,9007199254740991\ny,-3,1e3,false,-1\n")
    array = read_columns(path, "patients", ["b", "a", "c", "d"])
    assert array.dtype == "float64"
    assert array.tolist() == [[2.5, 1.0, 1.0, 9007199254740991.0], [1000.0, -3.0, 0.0, -1.0]]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.integers(1 - 2**53, 2**53 - 1), st.floats(allow_nan=False, allow_infinity=False)), min_size=1
    )
)
def test_it_reads_every_number_as_float64_does(shared: Path, rows: list[tuple[int, float]]) -> None:
    path = shared / "numbers.csv"
    path.write_text("a,b\n" + "".join(f"{a},{b!r}\n" for a, b in rows))
    assert read_columns(path, "patients", ["a", "b"]).tolist() == [[float(a), b] for a, b in rows]


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**18 + 1])
def test_it_refuses_whole_numbers_that_float64_would_round(table: Table, number: int) -> None:
    path = table(f"a,b\n1,{number}\n2,3\n")
    with pytest.raises(ConfigError, match=r"column 'b' of dataset patients has whole numbers of 2\^53 and more"):
        read_columns(path, "patients", ["a", "b"])


def test_it_reads_a_column_whose_first_fraction_comes_late(table: Table) -> None:
    path = table("a,b\n" + "1,2\n" * BLOCK_ROWS + "1.5,2\n")
    array = read_columns(path, "patients", ["a"])
    assert array.shape == (BLOCK_ROWS + 1, 1)
    assert array[-1, 0] == 1.5


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a,b\n1,2\n,3\n,4\n", "column 'a' of dataset patients has 2 empty values"),
        ("a,b\n1,2\nNULL,3\n", "column 'a' of dataset patients has 1 empty values"),
        ("a,b\n1,2\nnan,3\n", "column 'a' of dataset patients has 1 empty values"),
        ("a,b\ntrue,2\n,3\n", "column 'a' of dataset patients has 1 empty values"),
        ("a,b\n1,2\ninf,3\n", "column 'a' of dataset patients has 1 infinite values"),
        ("a,b\n1,2\n-inf,3\n1e999,3\n", "column 'a' of dataset patients has 2 infinite values"),
        ("a,b\nx,2\n", "column 'a' of dataset patients is not numeric"),
        ("a,b\n2020-01-01,2\n", "column 'a' of dataset patients is not numeric"),
        ("a,b\n,2\n,3\n", "column 'a' of dataset patients is not numeric"),
        ("b,c\n1,2\n", "dataset patients has no column 'a'"),
        ("A,b\n1,2\n", "dataset patients has no column 'a'"),
    ],
)
def test_it_says_which_column_is_not_fit_for_arithmetic(table: Table, content: str, text: str) -> None:
    assert refusal(read_columns, table(content), ["b", "a"]) == text


@pytest.mark.parametrize("line", ["patient-0001,2\n", "1,2,3\n", "\n1,2\n3\n"])
def test_it_says_that_a_late_line_does_not_fit(table: Table, line: str) -> None:
    path = table("a,b\n" + "1,2\n" * BLOCK_ROWS + line)
    text = refusal(read_columns, path, ["a"])
    assert text.startswith("dataset patients has a line that does not fit its columns or is not UTF-8")


# --- keys


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        ("uid\n1\n1.0\n01\n+1\n 1\n", ["uid"]),
        ("uid\ntrue\nTrue\n", ["uid"]),
        ("uid\nNULL\nnull\nnan\n", ["uid"]),
        ("uid,x\n1,\n2,\n\n\n", ["uid"]),
        ('uid,x\r\n"a,b",1\r\na,2\r\n', ["uid"]),
        ("a,b\n1,23\n12,3\n1,3\n", ["a", "b"]),
        ("a,b\n1,1\n1,2\n2,1\n", ["a", "b"]),
    ],
)
def test_it_compares_keys_as_text(table: Table, content: str, keys: list[str]) -> None:
    check_keys(table(content), "patients", keys)


@pytest.mark.parametrize(
    ("content", "keys", "count"),
    [
        ("uid,x\na,1\na,2\n", ["uid"], 1),
        ("uid,x\na,1\nb,1\na,2\na,3\nb,2\n", ["uid"], 3),
        ("a,b,c\n1,1,x\n1,2,x\n1,1,y\n", ["a", "b"], 1),
        ("a,b,c\n1,1,x\n1,2,x\n1,1,y\n", ["b", "a"], 1),
        ('uid\n"a"\na\n', ["uid"], 1),
        ("[id],.x\na,1\na,1\n", ["[id]", ".x"], 1),
    ],
)
def test_it_counts_rows_with_keys_of_another_row(table: Table, content: str, keys: list[str], count: int) -> None:
    text = refusal(check_keys, table(content), keys)
    assert text == (f"dataset patients has {count} rows that repeat the {', '.join(keys)} of another row; remove them")


def test_it_refuses_what_psi_would_write_wrongly(table: Table) -> None:
    assert "has a column 'a\"b'; PSI cannot write its name" in refusal(check_keys, table('uid,"a""b"\nx,1\n'), ["uid"])


def test_it_reads_a_column_once_that_is_named_twice(table: Table) -> None:
    assert read_columns(table("a,b\n1,2\n"), "patients", ["a", "b", "a"]).tolist() == [[1.0, 2.0, 1.0]]


def test_of_no_columns_it_says_how_many_rows(table: Table) -> None:
    assert read_columns(table("a\n1\n2\n"), "patients", []).shape == (2, 0)
    assert "has no rows" in refusal(read_columns, table("a\n"), [])


key = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=3)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(key, st.sampled_from(["1", "1.0", "", "NULL", "01"])), min_size=1, max_size=6))
def test_it_finds_duplicates_exactly_where_there_are_any(shared: Path, rows: list[tuple[str, str]]) -> None:
    path = shared / "keys.csv"
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([("a", "b"), *rows])
    surplus = sum(Counter(rows).values()) - len(set(rows))
    if any("" in row for row in rows):
        assert "PSI needs a key in each row" in refusal(check_keys, path, ["a", "b"])
    elif surplus:
        assert f"has {surplus} rows that repeat the a, b" in refusal(check_keys, path, ["a", "b"])
    else:
        check_keys(path, "patients", ["a", "b"])


@pytest.mark.parametrize(
    ("content", "keys", "text"),
    [
        ("uid,x\n", ["uid"], "has no rows"),
        ("uid\n", ["uid"], "has no rows"),
        ("uid,x\n,1\n,2\n", ["uid"], "column 'uid' of dataset patients has 2 empty values; PSI needs a key"),
        ('uid\n""\na\n', ["uid"], "column 'uid' of dataset patients has 1 empty values"),
        ("a,b\n1,1\n2,\n", ["a", "b"], "column 'b' of dataset patients has 1 empty values"),
        ('uid,x\na,"1\n2"\nb,1\n', ["uid"], "has blank lines or line breaks inside quotes"),
        ('uid,"x\ny"\na,1\nb,1\n', ["uid"], "has blank lines or line breaks inside quotes"),
        ("uid\na\n\nb\n", ["uid"], "has blank lines or line breaks inside quotes"),
    ],
)  # fmt: skip
def test_it_refuses_what_psi_would_read_otherwise(table: Table, content: str, keys: list[str], text: str) -> None:
    assert text in refusal(check_keys, table(content), keys)


def test_it_says_that_a_table_for_arithmetic_has_no_rows(table: Table) -> None:
    assert refusal(read_columns, table("a,b\n"), ["a"]) == "dataset patients has no rows"


def test_it_says_that_a_key_column_is_missing(table: Table) -> None:
    path = table("uid,x\na,1\n")
    assert refusal(check_keys, path, ["uid", "dob"]) == "dataset patients has no column 'dob'"


def test_it_says_that_a_key_is_not_utf_8(table: Table) -> None:
    path = table(b"uid,x\na,1\n\xff\xfe,2\n")
    assert "is not UTF-8" in refusal(check_keys, path, ["uid"])
    # other columns can be used
    assert read_columns(path, "patients", ["x"]).tolist() == [[1.0], [2.0]]
    check_keys(path, "patients", ["x"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text("ab,1.\n\"' \r", max_size=40).map(str.encode))
def test_it_raises_nothing_but_config_errors(shared: Path, content: bytes) -> None:
    path = shared / "secret-place.csv"
    path.write_bytes(content)
    try:
        types = column_types(path, "patients")
    except ConfigError:
        return
    for call in (read_columns, check_keys):
        try:
            found = call(path, "patients", list(types))
        except ConfigError:
            continue
        if call is read_columns:
            assert all(math.isfinite(value) for row in found.tolist() for value in row)


@pytest.mark.parametrize("columns", [3, 90_000])
def test_a_heading_that_is_too_long_is_told_as_that(tmp_path: Path, columns: int) -> None:
    path = tmp_path / "wide.csv"
    names = [f"column_{i:06}".ljust(1_100_000 // columns, "x") for i in range(columns)]
    path.write_text(",".join(names) + "\n" + ",".join("1" * columns) + "\n")
    with pytest.raises(ConfigError, match=r"the heading of dataset wide has 1,\d\d\d,\d\d\d bytes, and 1,048,576 at"):
        column_types(path, "wide")


@pytest.mark.parametrize(("cells", "is_told"), [(["1,5", "2", "-1.000,25", ""], True), (["1,5", "x"], False)])
def test_it_says_that_numbers_have_decimal_commas(tmp_path: Path, cells: list[str], is_told: bool) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("id,price\n" + "".join(f'1,"{cell}"\n' for cell in cells))
    with pytest.raises(ConfigError, match="column 'price' of dataset prices is not numeric") as caught:
        read_columns(path, "prices", ["price"])
    assert ("decimal commas, such as 1,5; write them with decimal points" in str(caught.value)) == is_told
