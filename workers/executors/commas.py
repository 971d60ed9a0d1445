"""Tables for those of SecretFlow's readers that know no quotes, and for keys of several columns.

The N-party protocols read a line as what stands between its commas, quoted or not, and every protocol puts a comma
between the columns of a key: ``a`` and ``b,c`` is the same key then as ``a,b`` and ``c``. So each comma and each quote
within a value is another character while PSI runs. A value has either only in a table with quotes, and so the same key
is the same at all parties, whether their tables have quotes or not.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from workers.errors import AlgorithmError
from workers.executors.base import Session

#: Two that Unicode says no text has.
_STAND_IN = str.maketrans({",": "\ufdd0", '"': "\ufdd1"})
_BACK = str.maketrans({"\ufdd0": ",", "\ufdd1": '"'})
_LONGEST = 2**31 - 1


class Readable(NamedTuple):
    """A party's table as PSI is to read it, in the run's private directory, and the names of its key columns there."""

    path: Path
    keys: list[str]
    changed: bool

    def restored(self, output: Path) -> Path:
        """Rows of the table that PSI kept, as they were. Raises AlgorithmError if it kept none."""
        if not output.exists():
            raise AlgorithmError("PSI ended without an output file")
        if not self.changed:
            return output
        _rewrite(output, output.with_suffix(".restored.csv"), _BACK)
        return output.with_suffix(".restored.csv")


def readable(session: Session, keys: list[str], *, knows_quotes: bool) -> Readable:
    """This party's table for PSI; ``knows_quotes``: of the protocol's reader."""
    # PSI writes "<input>.meta" beside its input and names the path in errors that peers see:
    # it gets a link in the private directory instead of the real place.
    path = session.workdir / "input.csv"
    if (knows_quotes and len(keys) == 1) or not _has_quotes(session.input_path):
        path.symlink_to(session.input_path)
        return Readable(path, keys, False)
    _rewrite(session.input_path, path, _STAND_IN)
    return Readable(path, [key.translate(_STAND_IN) for key in keys], True)


def _has_quotes(path: Path) -> bool:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if b'"' in block:
                return True
    return False


def _rewrite(source: Path, target: Path, characters: dict[int, str]) -> None:
    """Copy a table row by row, with these characters in its values and column names replaced."""
    csv.field_size_limit(_LONGEST)
    # Not every column needs to be UTF-8
    with (
        source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines,
        target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as found,
    ):
        writer = csv.writer(found, lineterminator="\n")
        for row in csv.reader(lines):
            writer.writerow([value.translate(characters) for value in row])
