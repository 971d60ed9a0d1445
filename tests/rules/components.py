"""Rules of the task type that runs SecretFlow's own components."""

from __future__ import annotations

from tests.rules.base import (
    Rule,
    component,
    component_of_statistics,
    component_of_two_tables,
    component_with_choice,
    component_with_model,
)

COMP = "task_config/algorithm_params/component_params"
PATH = "task_config.algorithm_params.component_params"
INPUT, INPUT_PATH = f"{COMP}/columns/input_ds", f"{PATH}.columns.input_ds"
SOURCES = {"alice": "people", "bob": "people"}

RULES = [
    Rule(component, f"{COMP}/component", "ml.train/ss_xgb_train", [], f"{PATH}.component", "should be"),
    Rule(component, f"{COMP}/component", "ml.train/ss_xgb_train", "ml.train/ss_xgb", f"{PATH}.component", "should be"),
    Rule(
        component,
        "task_config/algorithm_params/psi_params",
        ...,
        {},
        "task_config.algorithm_params.psi_params",
        "unknown key; this task type takes component_params alone",
    ),
    Rule(component, f"{COMP}/attributes", {"epochs": 3}, {"epochs": 0}, f"{PATH}.attributes.epochs", "greater than"),
    Rule(
        component,
        f"{COMP}/attributes",
        {"reg_type": "linear"},
        {"regtype": "linear"},
        f"{PATH}.attributes.regtype",
        "did you mean 'reg_type'?",
    ),
    Rule(
        component_with_choice,
        COMP,
        component_with_choice()["task_config"]["algorithm_params"]["component_params"],
        {"component": "io/data_source", "attributes": {"party": "alice", "uri": "file:///etc/passwd"}},
        f"{PATH}.component",
        "cannot run here; fetches a table from Kuscia's DataMesh",
    ),
    Rule(
        component_with_choice,
        f"{COMP}/attributes/sample_algorithm",
        {"choose": "random", "random": {"frac": 0.5}},
        {"choose": "random", "system": {"frac": 0.5}},
        f"{PATH}.attributes.sample_algorithm.system",
        "would be ignored, random is chosen; remove it",
    ),
    Rule(
        component_with_choice,
        f"{COMP}/attributes/sample_algorithm",
        {"choose": "system"},
        {"choose": "stratify"},
        f"{PATH}.attributes.sample_algorithm.stratify",
        "is required, since it is chosen",
    ),
    Rule(
        component_with_model,
        f"{COMP}/attributes/receiver",
        "bob",
        "carol",
        f"{PATH}.attributes.receiver",
        "is not a party of sf_init_config; should be one of alice, bob",
    ),
    Rule(
        component_with_model,
        "task_config/further_sources",
        {"input_model": {"alice": "model", "bob": "model"}},
        {"input_model": {"alice": "people", "bob": "model"}},
        "task_config.further_sources.input_model.alice",
        "people is a table; should be a sf.model.ss_sgd",
    ),
    Rule(
        component_with_model,
        "task_config",
        component_with_model()["task_config"],
        component_with_model()["task_config"] | {"data_sources": {"alice": "people"}, "further_sources": {}},
        "task_config.further_sources.input_model.bob",
        "is required; name what bob keeps as sf.model.ss_sgd",
    ),
    Rule(
        component,
        "task_config/outputs",
        {"alice": "m", "bob": "m"},
        {"alice": "m"},
        "task_config.outputs.bob",
        "is required; name what bob keeps its part of output_model as",
    ),
    Rule(
        component,
        f"{INPUT}/features",
        {"alice": ["age"], "bob": ["number"]},
        {"alice": ["age"], "bob": ["number", "label"]},
        f"{INPUT_PATH}.labels.bob.0",
        "is named at features.bob, too",
    ),
    Rule(
        component,
        INPUT,
        {"features": {"alice": ["age"]}, "labels": {"bob": ["label"]}},
        {},
        INPUT_PATH,
        "names no column",
    ),
    Rule(
        component,
        INPUT,
        {"features": {"alice": ["age"]}, "labels": {"bob": ["label"]}},
        {"features": {"bob": ["age"]}, "labels": {"bob": ["label"]}},
        INPUT_PATH,
        "has columns of bob alone; this input takes columns of two or more parties",
    ),
    Rule(
        component_of_two_tables,
        f"{COMP}/columns/input_ds1",
        {"ids": {"alice": ["uid"]}},
        {"ids": {"alice": ["uid"], "bob": ["number"]}},
        f"{PATH}.columns.input_ds1",
        "has columns of alice and bob; this input is the table of one party",
    ),
    Rule(
        component_of_two_tables,
        "task_config/data_sources",
        SOURCES,
        {"alice": "people"},
        f"{PATH}.columns.input_ds2",
        "has columns of bob, of whom no table is named; add data_sources.bob",
    ),
    Rule(
        component,
        f"{INPUT}/select",
        {"label": "label"},
        {"label": "labels"},
        f"{INPUT_PATH}.select.label",
        "labels is none of this input's columns; did you mean 'label'?",
    ),
    Rule(
        component,
        f"{INPUT}/labels",
        {"bob": ["label"]},
        {},
        f"{INPUT_PATH}.select.label",
        "0 columns fit here; name exactly 1",
    ),
    Rule(
        component_of_statistics,
        "task_config/outputs",
        {},
        {"alice": "m"},
        "task_config.outputs.alice",
        "gets nothing from this component",
    ),
]
