"""Tables are looked at in blocks: also one whose file is a single line to those who know line feeds alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.held import most_held
from workers.contract.errors import ConfigError
from workers.host import codes
from workers.host.key_columns import check_keys
from workers.host.sources import Source, readable
from workers.host.tables import column_types

MB = 1 << 20


@pytest.fixture(scope="module")
def old_mac(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 41 MB with the line ends of old Macs."""
    path = tmp_path_factory.mktemp("mac") / "table.csv"
    path.write_bytes(b"k,v\r" + (b"1," + b"x" * 38 + b"\r") * 1_000_000)
    column_types(path, "people")  # which is remembered: its own blocks are larger
    return path


def test_the_lines_of_a_table_without_line_feeds_are_counted_in_blocks(old_mac: Path) -> None:
    def check() -> None:
        with pytest.raises(ConfigError, match="has blank lines or line breaks inside quotes"):
            check_keys(old_mac, "people", ["k"])

    assert most_held(check)[0] < 14 * MB  # of which a million hashes are 8


def test_the_line_that_does_not_fit_is_looked_for_in_blocks(old_mac: Path, tmp_path: Path) -> None:
    source = Source("people", old_mac, types={"v": "int"})

    def check() -> None:
        with pytest.raises(ConfigError, match=r"column 'v' of dataset people is declared int, and line 2 has"):
            readable({"": source}, tmp_path)

    assert most_held(check)[0] < 6 * MB


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"k,v\na,1\n\n\r\nb,x\n", 5),
        (b"\n\nk,v\n\na,x", 5),
        (b"k,v\r\na,1\r\n" + b"b,1\r\n" * 50_000 + b"b,x\r\n", 50_003),
        (b"k,v\na," + b"1" * 18 + b"\n" + b"b" * 800_000 + b",1\n" + b"b" * 800_000 + b",x\n", 4),
    ],
)
def test_it_says_in_which_line_a_value_does_not_fit(tmp_path: Path, content: bytes, line: int) -> None:
    (tmp_path / "people.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=f"declared int, and line {line} has something else"):
        readable({"": Source("people", tmp_path / "people.csv", types={"v": "int"})}, tmp_path)


@pytest.mark.parametrize("lines", ["k\na\nb", "k\na\nb\n\n\r\n\n", "k\r\na\r\nb\r\n", "k\n" + "a" * 900_000 + "\nb\n"])
def test_lines_with_nothing_on_them_at_the_end_are_none(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(lines, newline="")
    check_keys(path, "people", ["k"])
    path.write_text("k\n" + lines.partition("\n")[2].replace("\nb", "\n\nb"), newline="")
    with pytest.raises(ConfigError, match="has blank lines"):
        check_keys(path, "people", ["k"])


# --- codes


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text('07 +-\t,."\n\ra', max_size=90).map(str.encode))
@example(b"2024-01-05\n" * 9)
@example(b"a" * 36 + b",   07")
def test_no_cell_of_digits_after_a_zero_is_overlooked(tmp_path: Path, content: bytes) -> None:
    """Wherever a block ends. To look at cells one by one in vain costs time alone, where dates have zeros."""
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes, "_BLOCK", 37)
        has_padded, _ = codes._may_have(path)
    if re.search(rb'(^|[,\n\r"])[+\- \t]{0,3}0\d', content):
        assert has_padded
    elif not re.search(rb"[+\- \t]{4}0\d", content) and not re.search(rb"[+\- \t]{1,3}0\d", content):
        assert not has_padded


def test_codes_are_found_beside_dates(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("day,a,b\n" + "2024-01-05,1,1\n" * 300_000 + "2024-01-05,1,  007\n")
    assert column_types(path, "people") == {"day": "str", "a": "int", "b": "str"}
