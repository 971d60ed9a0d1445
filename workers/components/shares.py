"""Settings of the SPU: those that a component asks for, and those that a model's shares depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from workers.components.definition import Component
from workers.components.files import Kept
from workers.contract.errors import ConfigError
from workers.contract.wording import Text

#: Settings that some components ask of their SPU, and SPU's names for approximations of the exponential.
SETTINGS = ("field", "fxp_fraction_bits", "fxp_exp_mode", "fxp_exp_iters")
EXP_MODES: dict[Any, str] = {1: "EXP_PADE", 2: "EXP_TAYLOR"}
HIGH_PRECISION = {"field": "FM128", "fxp_fraction_bits": 40}
PRECISE = frozenset({"stats/ss_pearsonr", "stats/ss_vif"})
#: Components whose settings depend on the model that they read.
BY_MODEL = frozenset({"ml.predict/ss_glm_predict", "ml.eval/ss_pvalue", "io/read_data", "io/write_data", "io/identity"})
GLM = "sf.model.ss_glm"
#: Kinds of models without shares: each party has its part in the clear.
UNSHARED = frozenset({"sf.model.sgb", "sf.rule.binning", "sf.rule.preprocessing", "sf.model.ub_psi.cache"})


def spu_settings(component: Component, attributes: Any, model: Kept | None) -> dict[str, Any]:
    """Return the settings that the component asks of the SPU. ``model``: this party's part of the model that it reads,
    if any."""
    if component.id in ("ml.train/ss_glm_train", "ml.predict/ss_glm_predict"):
        found = model.public_info if model else {}
        mode = EXP_MODES[found["fxp_exp_mode"]] if found else f"EXP_{attributes.exp_mode.upper()}"
        iterations = found["fxp_exp_iters"] if found else attributes.exp_iters
        return HIGH_PRECISION | {"fxp_exp_mode": mode, "fxp_exp_iters": iterations}
    # Shares of a generalised linear model always have that precision; those of others have their SPU's
    is_precise = component.id in PRECISE or (component.id in BY_MODEL and model is not None and model.kind == GLM)
    return HIGH_PRECISION if is_precise else {}


def with_spu(devices: Mapping[str, Any], settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the documents of the devices, with these settings in the SPU's."""
    if "spu_config" not in devices or not settings:
        return devices
    document = devices["spu_config"]
    runtime = document.runtime_config.model_copy(update=dict(settings))
    return {**devices, "spu_config": document.model_copy(update={"runtime_config": runtime})}


def replaced(asked: Mapping[str, Any], used: Mapping[str, Any]) -> list[str]:
    """Return a warning for the result if the SPU does not start with the settings that the task names."""
    if "spu_config" not in asked:
        return []
    before, after = asked["spu_config"].runtime_config, used["spu_config"].runtime_config
    changed = [name for name in before.model_fields_set if getattr(before, name) != getattr(after, name)]
    if not changed:
        return []
    told = ", ".join(f"{name} {getattr(after, name)} in the place of {getattr(before, name)}" for name in changed)
    return [f"The SPU computed with other settings than spu_config names, as this needs: {told}."]


def check_shares(model: Kept, name: str, devices: Mapping[str, Any], parties: Sequence[str]) -> None:
    """Raise ConfigError if a model's shares do not fit the SPU that these documents start. Shares are numbers in the
    field of the SPU that made them, with its fraction bits and for its parties by their ranks. Another SPU would
    compute with them without an error, and the output would look like a result.
    """
    if model.kind in UNSHARED or "spu_config" not in devices:
        return
    made, found = model.record.get("spu"), shares_of(devices["spu_config"], parties)
    if not isinstance(made, dict) or made.keys() != found.keys():
        raise ConfigError("{} does not say with which settings its shares were made; make it again", name)
    if unlike := [setting for setting, value in found.items() if made[setting] != value]:
        told = [Text("{} {}, this task has {}", Text(what), *map(_shown, (made[what], found[what]))) for what in unlike]
        raise ConfigError("{} was made with {}: {}", name, told, Text(_remedy(unlike)))


def shares_of(document: Any, parties: Sequence[str]) -> dict[str, Any]:
    """Return all settings that shares depend on, JSON."""
    runtime = document.runtime_config
    return {
        "protocol": runtime.protocol,
        "field": runtime.field,
        "fxp_fraction_bits": runtime.fraction_bits,
        "parties": list(parties),
    } | {package: version(package) for package in ("secretflow", "spu")}


def _shown(value: Any) -> Any:
    # The parties may be others than those of this task
    return [str(one) for one in value] if isinstance(value, list) else Text(str(value))


def _remedy(unlike: Sequence[str]) -> str:
    settings = [name for name in unlike if name in ("protocol", "field", "fxp_fraction_bits")]
    said = [f"set {' and '.join(settings)} of spu_config.runtime_config to what it was made with"] if settings else []
    if "parties" in unlike:
        said.append("name the same parties in the same order in sf_init_config.parties")
    if {"secretflow", "spu"} & set(unlike):
        said.append("make it again with this version")
    return ", and ".join(said)
