"""The layers of a run: one document each, by name."""

from __future__ import annotations

from pydantic import BaseModel

from workers.contract.documents import SFInitConfig, TaskConfig
from workers.contract.registry import DEVICE_REGISTRY

#: The layers that may not be left out.
REQUIRED = ("sf_init_config", "spu_config", "heu_config", "task_config")


def layers() -> list[str]:
    """Return the names of the documents in the order of their layers."""
    return ["sf_init_config", *DEVICE_REGISTRY, "task_config"]


def model_of(layer: str) -> type[BaseModel]:
    """Return the pydantic model of a layer."""
    if layer == "sf_init_config":
        return SFInitConfig
    return TaskConfig if layer == "task_config" else DEVICE_REGISTRY[layer].Document
