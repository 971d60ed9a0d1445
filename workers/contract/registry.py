"""The registries of devices and task types: names to classes, which are imported on first use.

A new task type is a module with a :class:`~workers.executors.base.BaseTaskExecutor` and one line here, a new device one
with a :class:`~workers.devices.base.Device`; docs/how-to.md has an example.

Entries are dotted paths ``package.module:Class`` so that the web side can list names without importing
anything, and other installed packages can add entries through a Python entry point group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from workers.devices.base import Device
    from workers.executors.base import BaseTaskExecutor

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    def __init__(self, entries: dict[str, str], *, group: str) -> None:
        # Our own entries come first, and no package can replace them
        self._paths = entries | {e.name: e.value for e in entry_points(group=group) if e.name not in entries}
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._loaded:
            module, _, attribute = self._paths[name].partition(":")
            self._loaded[name] = getattr(import_module(module), attribute)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, name: object) -> bool:
        return name in self._paths


#: Layer name (the document's key) to device class, in the order in which devices are brought up.
DEVICE_REGISTRY: Registry[type[Device]] = Registry(
    {
        "spu_config": "workers.devices.spu:SPU",
        "heu_config": "workers.devices.heu:HEU",
    },
    group="secretflow_controlplane.devices",
)

#: Task type to executor class, in the order in which they are listed.
TASK_EXECUTOR_REGISTRY: Registry[type[BaseTaskExecutor]] = Registry(
    {
        "psi": "workers.executors.psi:PSITaskExecutor",
        "unbalanced_psi": "workers.executors.unbalanced_psi:UnbalancedPSIExecutor",
        "vertical_table": "workers.executors.rows:VerticalTableExecutor",
        "split": "workers.executors.rows:SplitExecutor",
        "scale": "workers.executors.preprocessing:ScaleExecutor",
        "one_hot": "workers.executors.one_hot:OneHotExecutor",
        "woe_binning": "workers.executors.woe:WOEBinningExecutor",
        "apply_rule": "workers.executors.apply_rule:ApplyRuleExecutor",
        "table_statistics": "workers.executors.table_statistics:TableStatisticsExecutor",
        "correlation": "workers.executors.statistics:CorrelationExecutor",
        "vif": "workers.executors.statistics:VIFExecutor",
        "stability": "workers.executors.stability:StabilityExecutor",
        "group_by": "workers.executors.group_by:GroupByExecutor",
        "lr": "workers.executors.lr:LogisticRegressionExecutor",
        "ss_glm": "workers.executors.models:SSGLMExecutor",
        "ss_xgb": "workers.executors.models:SSXGBExecutor",
        "sgb": "workers.executors.models:SGBExecutor",
        "predict": "workers.executors.predict:PredictExecutor",
        "evaluate": "workers.executors.evaluate:EvaluateExecutor",
        "component": "workers.executors.component:ComponentExecutor",
        "he_sum": "workers.executors.he_sum:HESumExecutor",
    },
    group="secretflow_controlplane.task_executors",
)


def further_layers() -> list[str]:
    """Return the layers of devices that other packages registered."""
    return [layer for layer in DEVICE_REGISTRY if layer not in ("spu_config", "heu_config")]


def stages() -> list[str]:
    """Return the stages of a run in their order. A run skips the stages of devices that are off."""
    devices = [f"{device.name}_init" for device in DEVICE_REGISTRY.values()]
    return ["task_started", "sf_init", "sf_cluster_ready", *devices, "devices_ready", "task_execution", "cleanup"]
