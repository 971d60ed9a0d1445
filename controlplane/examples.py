"""The example of every task type: the whole request, and what has to exist before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from workers.contract.documents import TaskConfig
from workers.contract.registry import DEVICE_REGISTRY, TASK_EXECUTOR_REGISTRY

#: The demo's parties.
PARTIES = ("alice", "bob")
#: Datasets that each of them has from the start.
TABLE = "breast_cancer"
SPU = {"runtime_config": {"protocol": "SEMI2K", "field": "FM128"}}


@cache
def examples() -> dict[str, Mapping[str, Any]]:
    """Return the ``task_config`` of each example by its task type, or ``component:<name>`` for a variant, in the
    registry's order. Types without an example are left out.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for name, executor in TASK_EXECUTOR_REGISTRY.items():
        # a type with variants has the example of one of them
        of = {f"{name}:{variant}": executor.example_of(variant) for variant in executor.variants()}
        found |= of or {name: executor.example}
    return {name: example for name, example in found.items() if example}


def request_of(example: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a POST to ``/api/v1/executions/`` that runs a ``task_config``; empty if that is empty.

    The devices that the task needs are on; otherwise SPU and HEU are off.
    """
    if not example:
        return {}
    executor = TASK_EXECUTOR_REGISTRY[example["task_type"]]
    needed = executor.needs(executor.parse_params(example["algorithm_params"]))
    parties = [*dict.fromkeys([*PARTIES, *(party for party, _ in _names(example))])]
    # a party that keeps an output may see it; if the HEU's key decrypts the output, that party must keep the key
    keeper = next(iter(example.get("outputs", {})), parties[0])
    documents: dict[str, Any] = {"spu": SPU, "heu": {"sk_keeper": keeper}}
    request: dict[str, Any] = {"sf_init_config": {"parties": parties}}
    for layer, device in DEVICE_REGISTRY.items():
        if device.name in needed:
            request[layer] = documents.get(device.name, {device.switch: True})
        elif device.name in documents:
            request[layer] = {device.switch: False}
    return request | {"task_config": example}


def before(example: Mapping[str, Any]) -> list[str]:
    """Return what has to exist before the example runs, a sentence each."""
    said = []
    for party, name in _names(example) if example else ():
        if party not in PARTIES and name == TABLE:
            said.append(f"The demo has no party {party}: register one, with a table {TABLE} that has the same keys.")
    makers: dict[str, list[str]] = {}
    for name, maker in made_by(example).items():
        makers.setdefault(maker, []).append(name)
    for maker, names in makers.items():
        said.append(f"Run the example of {maker} first: it keeps {' and '.join(names)}.")
    return said


def made_by(example: Mapping[str, Any]) -> dict[str, str]:
    """Map each thing that an example reads to the first example that keeps it. What the parties have from the start is
    left out."""
    read = [name for _, _, name in _task(example).reads()] if example else []
    return {name: _makers()[name] for name in dict.fromkeys(read) if name in _makers()}


@cache
def _makers() -> dict[str, str]:
    makers: dict[str, str] = {}
    for maker, example in examples().items():
        for _, _, name in _task(example).keeps():
            makers.setdefault(name, maker)
    return makers


def _task(example: Mapping[str, Any]) -> TaskConfig:
    return TaskConfig.model_validate(example)


def _names(example: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each party with each name that it reads or keeps."""
    task = _task(example)
    return ((party, name) for found in (task.reads(), task.keeps()) for _, party, name in found)
