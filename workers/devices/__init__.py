"""Devices: one document layer and one class each (1-contract.md section 1).

A new device is a module with a :class:`~workers.devices.base.Device` and one line here.
"""

from workers.devices.base import Device
from workers.registry import Registry

#: Layer name (the document's key) to device class, in the order in which devices are brought up.
DEVICE_REGISTRY: Registry[type[Device]] = Registry(
    {
        "spu_config": "workers.devices.spu:SPU",
        "heu_config": "workers.devices.heu:HEU",
    },
    group="secretflow_controlplane.devices",
)


def further_layers() -> list[str]:
    """The layers of devices that other packages registered."""
    return [layer for layer in DEVICE_REGISTRY if layer not in ("spu_config", "heu_config")]


def stages() -> list[str]:
    """The stages of a run, in order; a device that is off has none of its own."""
    devices = [f"{device.name}_init" for device in DEVICE_REGISTRY.values()]
    return ["task_started", "sf_init", "sf_cluster_ready", *devices, "devices_ready", "task_execution", "cleanup"]
