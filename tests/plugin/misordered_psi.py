"""A PSI that gives bob his rows in another order, as one with a fault would. For tests only."""

from __future__ import annotations

from typing import Any

from workers.executors.psi import PSITaskExecutor


class MisorderedPSIExecutor(PSITaskExecutor):
    """Reverses what PSI answers at bob."""

    def _kept(self, params: Any, table: Any, answer: Any, *more: Any) -> dict[str, Any]:
        if self.context.party == "bob":
            heading, *lines = answer.read_text().splitlines()
            answer.write_text("\n".join([heading, *reversed(lines), ""]))
        return super()._kept(params, table, answer, *more)
