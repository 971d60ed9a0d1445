"""Rules of structure: what pydantic finds, in our words, one case for each kind of its errors that we word."""

from __future__ import annotations

from tests.rules.base import Rule, lr, psi

TRAINING = "task_config/algorithm_params/ml_params/training_params"
TRAINING_PATH = "task_config.algorithm_params.ml_params.training_params"

RULES = [
    Rule(psi, "sf_init_config/cluster", {}, [], "sf_init_config.cluster", "should be an object with named keys"),
    Rule(psi, "spu_config/runtime_config", {}, [], "spu_config.runtime_config", "should be an object with named keys"),
    Rule(psi, "sf_init_config/parties", ["alice", "bob"], "alice", "sf_init_config.parties", "should be a list"),
    Rule(psi, "task_config/domain", "marketing", 3, "task_config.domain", "should be text"),
    Rule(psi, "task_config/domain", "marketing", "x" * 101, "task_config.domain", "at most 100 characters"),
    Rule(psi, "task_config/task_type", "psi", "", "task_config.task_type", "is empty; fill it in"),
    Rule(psi, "task_config/data_sources", {"alice": "people", "bob": "people"}, {}, "task_config.data_sources",
         "is empty; fill it in"),
    Rule(psi, "spu_config/enable_spu", True, [], "spu_config.enable_spu", "should be true or false"),
    Rule(psi, "spu_config/enable_spu", True, "true", "spu_config.enable_spu", "should be true or false"),
    Rule(psi, "task_config/keep_devices_seconds", 60, True, "task_config.keep_devices_seconds",
         "should be a whole number"),
    Rule(psi, "sf_init_config/logging_level", "info", "loud", "sf_init_config.logging_level", "should be 'debug'"),
    Rule(psi, "task_config/data_sources/bob", "people", "../etc/passwd", "task_config.data_sources.bob",
         "is not a valid name; should match"),
    Rule(psi, "task_config/data_sources", {"alice": "people", "bob": "people"}, ..., "task_config.data_sources",
         "is required; add it"),
    Rule(psi, "spu_config", {}, {"nods": []}, "spu_config.nods", "unknown key; did you mean 'nodes'?"),
    Rule(lr, TRAINING, {"epochs": 1}, {"epochs": 0}, f"{TRAINING_PATH}.epochs", "greater than or equal to 1"),
    Rule(lr, TRAINING, {"epochs": 1}, {"epochs": []}, f"{TRAINING_PATH}.epochs", "should be a whole number"),
    Rule(lr, TRAINING, {"epochs": 1}, {"epochs": "many"}, f"{TRAINING_PATH}.epochs", "should be a whole number"),
    Rule(lr, TRAINING, {"epochs": 1}, {"epochs": 1.5}, f"{TRAINING_PATH}.epochs", "should be a whole number"),
    Rule(lr, TRAINING, {"epochs": 1}, {"epochs": "3"}, f"{TRAINING_PATH}.epochs", "should be a whole number"),
    Rule(lr, TRAINING, {"epochs": 1}, {"epochs": True}, f"{TRAINING_PATH}.epochs", "should be a whole number"),
    Rule(lr, TRAINING, {"epochs": 1}, {"epochs": "9" * 5000}, f"{TRAINING_PATH}.epochs", "should be a whole number"),
    Rule(lr, TRAINING, {"learning_rate": 1}, {"learning_rate": []}, f"{TRAINING_PATH}.learning_rate",
         "should be a number"),
    Rule(lr, TRAINING, {"learning_rate": 1}, {"learning_rate": "fast"}, f"{TRAINING_PATH}.learning_rate",
         "should be a number"),
    Rule(lr, TRAINING, {"learning_rate": 0.1}, {"learning_rate": float("nan")}, f"{TRAINING_PATH}.learning_rate",
         "less than or equal to 100"),
]  # fmt: skip
