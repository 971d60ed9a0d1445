"""Wraps the SPU for the components of PSI, so that they pair rows as the task type psi does."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.components.patching import replace_once
from workers.computing.context import Context
from workers.computing.matching import KeyTable, check_pairing
from workers.computing.minimum import agreed, check_intersection
from workers.contract.errors import ConfigError
from workers.host.key_columns import check_keys
from workers.host.sources import Source
from workers.host.tables import text_blocks

#: The components that call ``psi`` of their SPU, and those that call ``ub_psi``.
PSI = frozenset({"data_prep/psi", "data_prep/psi_tp"})
UNBALANCED = frozenset({"data_prep/unbalance_psi", "data_prep/unbalance_psi_cache"})


def check_keys_of(component: str, role: str, attributes: Any, keys: list[str], source: Source) -> None:
    """Raise ConfigError if the component would match or pair the rows of this party's table wrongly, or stop."""
    if component in PSI:
        may_repeat = getattr(attributes, f"{role}_keys_duplicated", False)
        check_keys(source.path, source.name, keys, remedy=None if may_repeat else "remove them")
    elif component in UNBALANCED:
        # The server's rows are in its cache since an earlier run, so that no row numbers can stand for them
        import pyarrow.compute as pc

        for block in text_blocks(source.path, source.name, keys):
            for column, values in zip(block.schema.names, block.columns, strict=True):
                if pc.any(pc.match_substring_regex(values, '[,"]')).as_py():
                    raise ConfigError(
                        "column {!r} of dataset {} has commas or quotes in its values, which this component would "
                        "match wrongly; use the task type unbalanced_psi",
                        column,
                        source.name,
                    )


def keys_as_text(component: str, chosen: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the columns that are compared as they are written, as in the task type psi. ``chosen``: the columns by the
    component's names.

    Read as numbers, 1e3 would be written 1000.0 at one party, and not match the text 1e3 of another.
    """
    return keys_among(chosen) if component in PSI | UNBALANCED else []


def keys_among(chosen: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the key columns among the chosen ones, going by the component's names."""
    return [column for name, columns in chosen.items() if name.startswith("keys") for column in columns]


#: Stands for an empty cell in the files of PSI with three parties; no table holds this text.
_NOTHING = f"nothing {secrets.token_hex(16)}"


def keep_texts() -> None:
    """Have ``psi_tp`` tell the text NA from an empty cell, as the other components do. May be called again."""
    from secretflow.component.preprocessing.data_prep import psi_tp

    for name in ("download_csv", "upload_orc"):
        replace_once(psi_tp, name, _with_own_word)


def _with_own_word(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any) -> Any:
        *others, _ = args  # the last value is the word for an empty cell
        return function(*others, _NOTHING)

    return called


class PairingSPU:
    """An SPU whose ``psi`` works on files of keys and row numbers, see :mod:`workers.computing.matching`. ``dataset``:
    the name of this party's table.
    """

    def __init__(self, context: Context, dataset: str) -> None:
        self._context, self._dataset = context, dataset

    def psi(
        self,
        *,
        keys: Mapping[str, Sequence[str]],
        input_path: Mapping[str, str],
        output_path: Mapping[str, str],
        broadcast_result: bool = True,
        table_keys_duplicated: Mapping[str, bool] | None = None,
        output_csv_na_rep: str = "NULL",
        disable_alignment: bool = False,
        **options: Any,
    ) -> Any:
        """Do what ``SPU.psi`` does. Rows are always aligned, whatever ``disable_alignment`` says, since the parts are
        of one vertical table."""
        context, party = self._context, self._context.party
        table, mine = Path(input_path[party]), list(keys[party])
        wanted = KeyTable(table, self._dataset, mine, table.parent)
        answer = table.parent / "answer.csv"
        report = wanted.match(
            context.devices["spu"],
            party,
            keys,
            output_path,
            answer,
            broadcast_result=broadcast_result,
            table_keys_duplicated=table_keys_duplicated,
            **options,
        )
        least = agreed(context)
        if party in output_path:
            target = Path(output_path[party])
            rows = wanted.rows(answer, crossed=party != context.parties[0])
            wanted.write(rows, target, output_csv_na_rep.encode())
            common = int((rows >= 0).sum())
            if broadcast_result:
                common = check_pairing(context, target, self._dataset, mine, rows)
            # A join may keep rows without a match, or those alone
            found = next((r["intersection_count"] for r in report if r["party"] == party), -1)
            check_intersection(least, found if found >= 0 else common)
        return report
