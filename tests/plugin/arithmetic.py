"""A task type as another package would add it: all that an SPU computes with, on one number of each row and party."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field, RootModel

from workers.contract.catalogue import Catalogue
from workers.contract.documents import ColumnName, Document, SFInitConfig, TaskConfig
from workers.contract.problems import Problem
from workers.executors.base import BaseTaskExecutor


class ArithmeticParams(Document):
    """Parameters of a calculation."""

    column: ColumnName = Field(description="Column of each party's numbers.")
    divide: bool = Field(default=True, description="Off: no quotients.")


class ArithmeticResult(RootModel[dict[str, list[float]]]):
    """A number of each row, which only a test may tell."""


class ArithmeticExecutor(BaseTaskExecutor):
    title = "Calculate"
    params_key = "arithmetic_params"
    Params = ArithmeticParams
    Result = ArithmeticResult
    devices: ClassVar[tuple[str, ...]] = ("spu",)

    @classmethod
    def check(
        cls, params: ArithmeticParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        yield from ()

    def execute_algorithm(self, algorithm_params: ArithmeticParams) -> dict[str, Any]:
        import pandas as pd
        import secretflow as sf

        spu = self.context.devices["spu"]
        mine = pd.read_csv(self.context.input_path)[algorithm_params.column].to_numpy()
        inputs = [sf.PYU(party)(lambda values: values)(mine).to(spu) for party in self.context.parties]
        found = sf.reveal(spu(calculate)(*inputs))
        if algorithm_params.divide:
            found["quotient"] = sf.reveal(spu(lambda first, *_, last: first / last)(*inputs[:-1], last=inputs[-1]))
        return {name: [float(value) for value in values] for name, values in found.items()}


def calculate(*columns: Any) -> dict[str, Any]:
    """Row by row the sum, the product and the largest; and the first column sorted."""
    import jax.numpy as jnp

    total, product, largest = columns[0], columns[0], columns[0]
    for column in columns[1:]:
        total, product, largest = total + column, product * column, jnp.maximum(largest, column)
    return {"total": total, "product": product, "largest": largest, "sorted": jnp.sort(columns[0])}
