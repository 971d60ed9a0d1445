"""Rules of the task types over columns of several parties: preprocessing, statistics, models, predictions."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.rules.base import TRIAL, Documents, Rule, psi

BOTH = {"alice": "people", "bob": "people"}
MADE = {"alice": "a", "bob": "b"}
TASK, PATH = "task_config", "task_config.algorithm_params"
COLUMNS = {"alice": ["age"], "bob": ["number"]}
LABEL = {"party": "bob", "column": "label"}


def task(task_type: str, key: str, params: Any, base: Any = psi, **more: Any) -> Documents:
    documents: Documents = base()
    documents["heu_config"] = {}
    documents["task_config"] = {
        "task_type": task_type, "data_sources": dict.fromkeys(documents["sf_init_config"]["parties"], "people"),
        "algorithm_params": {key: params},
    } | more  # fmt: skip
    return documents


GLM = {"link_type": "Logit", "label_dist_type": "Bernoulli", "optimizer": "SGD"}
glm = partial(task, "ss_glm", "glm_params", {"features": COLUMNS, "label": LABEL, "training_params": GLM})
glm_of_a_label = partial(
    task, "ss_glm", "glm_params", {"features": {"alice": ["age"]}, "label": LABEL, "training_params": GLM}
)
sgb = partial(task, "sgb", "sgb_params", {"features": COLUMNS, "label": LABEL})
predict = partial(
    task, "predict", "predict_params", {"receiver": "bob"},
    outputs={"bob": "scores"}, further_sources={"model": {"alice": "model", "bob": "model"}},
)  # fmt: skip
evaluate = partial(
    task, "evaluate", "evaluate_params", {"party": "bob", "label": "label", "prediction": "number"},
    data_sources={"bob": "people"},
)  # fmt: skip
apply_rule = partial(
    task, "apply_rule", "apply_rule_params", {}, outputs=MADE,
    further_sources={"rule": {"alice": "rule", "bob": "rule"}},
)  # fmt: skip
split = partial(task, "split", "split_params", {}, outputs=MADE, further_outputs={"test": {"alice": "c", "bob": "d"}})
table = partial(task, "vertical_table", "vertical_table_params", {"columns": COLUMNS}, outputs=MADE)
vif = partial(task, "vif", "statistics_params", {"columns": COLUMNS})
stability = partial(task, "stability", "stability_params", {"columns": COLUMNS}, further_sources={"test": BOTH})
AGGREGATE = {"party": "alice", "column": "age"}
group_by = partial(task, "group_by", "group_by_params", {"by": {"bob": ["label"]}, "aggregates": [AGGREGATE]})
one_hot = partial(task, "one_hot", "one_hot_params", {"columns": {"alice": ["age"]}}, outputs=MADE)
KEYS = {"alice": ["uid"], "bob": ["uid"]}
unbalanced = partial(
    task, "unbalanced_psi", "unbalanced_psi_params", {"input_keys": KEYS, "client": "alice"}, outputs={"alice": "known"}
)


def component_with_a_dot() -> Documents:
    columns = {"features": {"alice": ["age"], "bob": ["number"]}}
    return task(
        "component", "component_params", {"component": "stats/table_statistics", "columns": {"input_ds": columns}}
    )


def params(key: str, name: str) -> str:
    return f"{TASK}/algorithm_params/{key}/{name}"


NEEDED = "is required"
NO_PARTY = "is not a party of sf_init_config"
NOTHING = "gets nothing from this task; remove it: the figures are the result"
RULES = [
    # parameters that all have defaults may be left out
    Rule(apply_rule, f"{TASK}/algorithm_params", {}, {"aply_rule_params": {}},
         f"{TASK}.algorithm_params.aply_rule_params", "unknown key; this task type takes apply_rule_params alone"),
    Rule(split, f"{TASK}/algorithm_params", {}, {"spilt_params": {}},
         f"{TASK}.algorithm_params.spilt_params", "unknown key; this task type takes split_params alone"),
    Rule(glm, params("glm_params", "training_params"), GLM, GLM | {"exp_mode": "prime"},
         f"{PATH}.glm_params.training_params.exp_mode", "prime is not offered"),
    Rule(glm_of_a_label, params("glm_params", "training_params"), GLM, GLM | {"optimizer": "IRLS"},
         f"{PATH}.glm_params.features.bob", "is required with the optimizer IRLS"),
    Rule(sgb, params("sgb_params", "training_params"), {"reg_lambda": 0.1}, {"reg_lambda": 0},
         f"{PATH}.sgb_params.training_params.reg_lambda", "divides by zero where a bin is empty"),
    Rule(glm, f"{TASK}/outputs", {"bob": "earlier"}, {"bob": "model"}, f"{TASK}.outputs.bob",
         "would replace model, a sf.model.ss_sgd, by something else; choose another name"),
    Rule(glm, f"{TASK}/further_outputs", {"model": MADE}, {"model": {"alice": "earlier", "bob": "model"}},
         f"{TASK}.further_outputs.model.alice", "would replace earlier, a table"),
    Rule(glm, f"{TASK}/further_outputs", {"model": MADE}, {"model": {"alice": "m"}},
         f"{TASK}.further_outputs.model.bob", "is required; name what bob keeps its part as"),
    Rule(predict, f"{TASK}/further_sources/model", {"alice": "model", "bob": "model"}, {"alice": "model"},
         f"{TASK}.further_sources.model.bob", NEEDED),
    Rule(predict, params("predict_params", "receiver"), "bob", "carol", f"{PATH}.predict_params.receiver", NO_PARTY),
    Rule(predict, params("predict_params", "keep_columns"), ["uid"], ["prediction"],
         f"{PATH}.predict_params.keep_columns", "names a column 'prediction'"),
    Rule(predict, f"{TASK}/outputs", {"bob": "s"}, {}, f"{TASK}.outputs.bob", NEEDED),
    Rule(evaluate, params("evaluate_params", "party"), "bob", "carol", f"{PATH}.evaluate_params.party", NO_PARTY),
    Rule(evaluate, f"{TASK}/data_sources", {"bob": "people"}, {"alice": "people"}, f"{TASK}.data_sources.bob", NEEDED),
    Rule(evaluate, f"{TASK}/outputs", {}, {"bob": "x"}, f"{TASK}.outputs.bob", NOTHING),
    Rule(apply_rule, f"{TASK}/further_sources/rule", {"alice": "rule", "bob": "rule"}, {"alice": "rule"},
         f"{TASK}.further_sources.rule.bob", NEEDED),
    Rule(split, f"{TASK}/outputs", MADE, {"alice": "a"}, f"{TASK}.outputs.bob", NEEDED),
    Rule(table, params("vertical_table_params", "columns"), COLUMNS, {"alice": ["age"]},
         f"{PATH}.vertical_table_params.columns.bob", NEEDED),
    Rule(table, f"{TASK}/outputs", MADE, {"alice": "a"}, f"{TASK}.outputs.bob", NEEDED),
    Rule(vif, f"{TASK}/outputs", {}, {"bob": "x"}, f"{TASK}.outputs.bob", NOTHING),
    Rule(vif, params("statistics_params", "columns"), COLUMNS, {"alice": [], "bob": ["number"]},
         f"{PATH}.statistics_params.columns.alice", "is empty"),
    Rule(vif, params("statistics_params", "columns"), COLUMNS, {"alice": ["age", "age"]},
         f"{PATH}.statistics_params.columns.alice", "names a column twice"),
    Rule(stability, f"{TASK}/further_sources/test", BOTH, {"alice": "people"},
         f"{TASK}.further_sources.test.bob", NEEDED),
    Rule(group_by, params("group_by_params", "by"), {"bob": ["label"]},
         {"bob": ["label", "uid", "note"], "alice": ["uid", "note"]}, f"{PATH}.group_by_params.by", "more than four"),
    Rule(group_by, params("group_by_params", "aggregates"), [AGGREGATE], [AGGREGATE | {"party": "carol"}],
         f"{PATH}.group_by_params.aggregates.0.party", NO_PARTY),
    Rule(group_by, params("group_by_params", "aggregates"), [AGGREGATE], [{"party": "bob", "column": "label"}],
         f"{PATH}.group_by_params.aggregates.0.column", "is what the groups are made by"),
    Rule(group_by, f"{TASK}/outputs", {}, {"bob": "x"}, f"{TASK}.outputs.bob", NOTHING),
    Rule(group_by, "spu_config/runtime_config", {"field": "FM64"}, {"field": "FM32"},
         f"{PATH}.group_by_params.aggregates.0.function", "needs a division, which FM32 cannot", known=TRIAL),
    Rule(one_hot, f"{TASK}/further_outputs", {"values": {"alice": "x"}}, {"values": {"bob": "x"}},
         f"{TASK}.further_outputs.values.bob", "no column of bob is encoded"),
    Rule(unbalanced, f"{TASK}/algorithm_params", unbalanced()[TASK]["algorithm_params"],
         unbalanced()[TASK]["algorithm_params"] | {"x": 1}, f"{PATH}.x", "unknown key"),
    Rule(unbalanced, params("unbalanced_psi_params", "input_keys"), KEYS, {"alice": ["uid", "note"], "bob": ["uid"]},
         f"{PATH}.unbalanced_psi_params.input_keys", "name different numbers"),
    Rule(unbalanced, params("unbalanced_psi_params", "client"), "alice", "carol",
         f"{PATH}.unbalanced_psi_params.client", NO_PARTY),
    Rule(unbalanced, f"{TASK}/outputs", {"alice": "x"}, {}, f"{TASK}.outputs.alice", NEEDED),
    Rule(unbalanced, "sf_init_config/parties", ["alice", "bob"], ["alice", "bob", "carol"],
         f"{PATH}.unbalanced_psi_params", "is for two parties"),
    Rule(component_with_a_dot, params("component_params", "columns/input_ds/features/alice"), ["age"], ["a.ge"],
         f"{PATH}.component_params.columns.input_ds.features.alice.0", "has a dot in its name"),
]  # fmt: skip
