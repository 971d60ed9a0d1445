"""The SPU as the components of PSI see it: their rows are paired as those of the task type psi are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.errors import ConfigError
from workers.executors.base import Session
from workers.executors.matching import KEY, NO_ROW, KeyTable, check_pairing
from workers.tables import check_keys, read_text

#: The components that call ``psi`` of their SPU, or ``ub_psi``.
PSI = frozenset({"data_prep/psi", "data_prep/psi_tp"})
UNBALANCED = "data_prep/unbalance_psi"


class PairingSPU:
    """``SPU.psi`` over files of keys and row numbers, see :mod:`workers.executors.matching`.

    ``dataset``: the name of this party's table.
    """

    def __init__(self, session: Session, dataset: str) -> None:
        self._session, self._dataset = session, dataset

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
        """As ``SPU.psi``. Rows are aligned whatever ``disable_alignment`` says: the parts are of one vertical table.

        Raises ConfigError where a key is empty, or repeats and may not.
        """
        session, party = self._session, self._session.party
        table, mine = Path(input_path[party]), list(keys[party])
        may_repeat = bool(table_keys_duplicated and table_keys_duplicated[party])
        for column, values in read_text(table, self._dataset, mine).items():
            if output_csv_na_rep in values.to_pylist():  # so the component writes what is empty
                raise ConfigError(
                    f"column {column!r} of dataset {self._dataset} has empty values; PSI needs a key in each"
                )
        check_keys(table, self._dataset, mine, remedy=None if may_repeat else "remove them")
        wanted = KeyTable(table, self._dataset, mine, table.parent)
        answer = table.parent / "answer.csv"
        report = session.devices["spu"].psi(
            keys={p: [KEY] for p in keys},
            input_path={p: str(wanted.path) if p == party else "" for p in keys},
            output_path={p: str(answer) if p == party else "" for p in output_path},
            broadcast_result=broadcast_result,
            table_keys_duplicated=table_keys_duplicated,
            output_csv_na_rep=NO_ROW,
            **options,
        )
        if party in output_path:
            target = Path(output_path[party])
            rows = wanted.rows(answer, crossed=party != session.parties[0])
            wanted.write(rows, target, output_csv_na_rep.encode())
            if broadcast_result:
                check_pairing(session, target, self._dataset, mine, rows)
        return report
