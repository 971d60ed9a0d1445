"""A task type as another package would add it: the parties exchange numbers for a while and add them up."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from workers.contract.catalogue import Catalogue
from workers.contract.documents import Document, PartyName, SFInitConfig, TaskConfig
from workers.contract.problems import Problem
from workers.executors.base import BaseTaskExecutor


class LightParams(Document):
    """Parameters of a task that does next to nothing."""

    rounds: int = Field(ge=1, le=100_000, description="How often every party tells all others a number.")
    pause: float = Field(default=0, ge=0, le=1, description="Seconds between two rounds, in which nothing computes.")
    last_word_takes: float = Field(
        default=0, ge=0, le=60, description="Seconds until the first party tells a last number, which nobody waits for."
    )
    links_hang_at: str | None = Field(
        default=None, description="Directory: the first time that a party comes there, its links hang as they connect."
    )
    quotes: bool = Field(default=False, description="Whether every party quotes its table and its paths in its log.")
    breaks_at: PartyName | None = Field(default=None, description="Party at which it fails at the end.")


class LightTaskExecutor(BaseTaskExecutor):
    title = "Exchange numbers"
    params_key = "light_params"
    Params = LightParams
    devices: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check(
        cls, params: LightParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        yield from ()

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> LightParams:
        params: LightParams = self.parse_params(algorithm_params)
        if params.links_hang_at and self.context.run_name:
            been_here = Path(params.links_hang_at) / self.context.party
            if not been_here.exists():
                been_here.touch()
                let_links_hang()
        return params

    def execute_algorithm(self, algorithm_params: LightParams) -> dict[str, Any]:
        import secretflow as sf

        if algorithm_params.quotes:
            for source in self.context.sources.values():
                quote(source.path, os.environ.get("REDIS_URL", ""))
        parties = [sf.PYU(party) for party in self.context.parties]
        total = 0
        for number in range(algorithm_params.rounds):
            # Every party's own number, revealed to all: the links are busy in both directions
            total += sum(sf.reveal([pyu(lambda n: n + 1)(number) for pyu in parties]))
            self.context.progress((number + 1) / algorithm_params.rounds)
            time.sleep(algorithm_params.pause)
        if algorithm_params.breaks_at == self.context.party:
            raise ValueError(
                f"it was asked to fail, with {[s.path.read_text() for s in self.context.sources.values()]}"
            )
        if algorithm_params.last_word_takes:
            late = parties[0](late_number)(algorithm_params.last_word_takes)
            for pyu in parties[1:]:
                pyu(lambda n: n)(late.to(pyu))
        return {"total": total}


def quote(path: Path, secret: str) -> None:
    """Say of a table all that other software may ever say of one, in all the ways in which it may."""
    said = f"{path} has {path.read_text()[:200]!r}, {secret}"
    for name in ("secretflow", "root", "light_task", "workers.executors.light"):
        logging.getLogger(name).error("quoted: %s", said)
    logging.getLogger("pandas").error(f"could not convert {said}")
    print(f"printed: {said}")
    print(f"printed: {said}", file=sys.stderr)
    warnings.warn(f"warned: {said}", stacklevel=1)
    forms = ("[2026-11-30 17:33:04.647] [error] [csv.cc:79] {}", "E1130 17:33:04.546294 12881 0 src/csv.cpp:177] {}")
    os.write(2, "".join(form.format(said) + "\n" for form in forms).encode())


def let_links_hang() -> None:
    """As brpc does now and then: the call that makes a link does not return, in the whole process."""
    import spu.libspu.link as link

    from workers.network import links

    links.CONNECT_SECONDS = 0.5
    link.create_brpc = lambda *args, **options: time.sleep(600)


def late_number(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def light_documents(
    parties: Sequence[str], rounds: int, dataset: str = "breast_cancer", pause: float = 0
) -> dict[str, Any]:
    """What a service submits to have these parties exchange numbers, without a device."""
    return {
        "sf_init_config": {"parties": list(parties)},
        "spu_config": {"enable_spu": False},
        "heu_config": {"enable_heu": False},
        "task_config": {
            "task_type": "light",
            "data_sources": dict.fromkeys(parties, dataset),
            "algorithm_params": {"light_params": {"rounds": rounds, "pause": pause}},
        },
    }


def total_of(rounds: int, parties: int) -> int:
    """The result that is right."""
    return parties * rounds * (rounds + 1) // 2
