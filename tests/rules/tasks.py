"""Rules of task_config and of the task types."""

from __future__ import annotations

from tests.rules.base import TRIAL, Known, Rule, he_sum, lr, pseudonyms, psi, psi_of_left_join, psi_of_three

PSI = "task_config/algorithm_params/psi_params"
PSI_PATH = "task_config.algorithm_params.psi_params"
ML = "task_config/algorithm_params/ml_params"
ML_PATH = "task_config.algorithm_params.ml_params"
SUM = "task_config/algorithm_params/he_sum_params/columns"
SUM_PATH = "task_config.algorithm_params.he_sum_params.columns"
SOURCES = {"alice": "people", "bob": "people"}

RULES = [
    Rule(psi, "task_config/task_type", "psi", "psy", "task_config.task_type", "did you mean 'psi'?"),
    Rule(psi, "spu_config/enable_spu", True, False, "spu_config.enable_spu", "psi needs this device; set it to true"),
    Rule(lr, "spu_config/enable_spu", True, False, "spu_config.enable_spu", "lr needs this device; set it to true"),
    Rule(
        psi, "task_config/algorithm_params", psi()["task_config"]["algorithm_params"],
        lr()["task_config"]["algorithm_params"], "task_config.algorithm_params.ml_params",
        "unknown key; this task type takes psi_params alone",
    ),
    Rule(
        psi, "task_config/algorithm_params", psi()["task_config"]["algorithm_params"], {}, PSI_PATH,
        "is required; add it",
    ),
    Rule(pseudonyms, "hsm_config", {"token": "t"}, ..., "hsm_config.enable_hsm", "pseudonymise needs this device"),
    # secrets
    Rule(pseudonyms, "hsm_config/token", "t", "t", "sf_init_config.parties.1",
         "bob has no public key to seal them with; run `manage.py party keys` on bob's host",
         Known(public_keys={"alice": "a key", "bob": ""}), Known()),
    Rule(psi, "task_config/domain", "http://host/path", "redis://user:password@host", "task_config.domain",
         "has a password in a URL; documents are shown to people: leave it out"),
    # datasets and outputs
    Rule(psi, "task_config/data_sources/alice", "people", "peple", "task_config.data_sources.alice",
         "alice has no dataset 'peple' registered; did you mean 'people'?"),
    Rule(psi, "task_config/data_sources", SOURCES, SOURCES | {"carol": "people"}, "task_config.data_sources.carol",
         "is not a party of sf_init_config; should be one of alice, bob"),
    Rule(psi, "task_config/data_sources/alice", "earlier", "model", "task_config.data_sources.alice",
         "model is a sf.model.ss_sgd; should be a table"),
    Rule(psi, "task_config/further_sources", {}, {"model": {"alice": "model"}}, "task_config.further_sources.model",
         "is nothing that this task type knows; remove it"),
    Rule(psi, "task_config/further_outputs", {}, {"model": {"carol": "m"}}, "task_config.further_outputs.model.carol",
         "is not a party of sf_init_config"),
    Rule(psi, "task_config/further_outputs", {}, {"model": {"alice": "common"}},
         "task_config.further_outputs.model.alice", "is the name of outputs.alice, too; choose another"),
    Rule(psi, "task_config/data_sources", SOURCES, {"alice": "people"}, "task_config.data_sources.bob",
         "is required; name a dataset of bob"),
    Rule(lr, "task_config/data_sources", SOURCES, {"alice": "people"}, "task_config.data_sources.bob",
         "is required; name a dataset of bob"),
    Rule(psi, "task_config/outputs/alice", "earlier", "people", "task_config.outputs.alice",
         "people is a dataset that alice registered; choose another"),
    Rule(psi, "task_config/outputs", {"alice": "x", "bob": "y"}, {"alice": "x", "bob": "y", "carol": "z"},
         "task_config.outputs.carol", "is not a party of sf_init_config"),
    # PSI
    Rule(psi, "task_config/outputs", {"alice": "x", "bob": "y"}, {"alice": "x"}, "task_config.outputs.bob",
         "is required; bob is a receiver"),
    Rule(psi, f"{PSI}/receivers", ["alice", "bob"], ["alice"], "task_config.outputs.bob", "bob is not a receiver"),
    Rule(psi, f"{PSI}/receivers", ["alice", "bob"], ["alice", "dave"], f"{PSI_PATH}.receivers.1", "is not a party of"),
    Rule(psi, f"{PSI}/receivers", ["alice", "bob"], ["bob", "bob"], f"{PSI_PATH}.receivers", "names a party twice"),
    Rule(psi, f"{PSI}/receivers", ["alice", "bob"], [], f"{PSI_PATH}.receivers", "is empty; fill it in"),
    Rule(psi_of_three, f"{PSI}/receivers", ["alice", "bob", "carol"], ["alice", "bob"], f"{PSI_PATH}.receivers",
         "name one party or all of them"),
    Rule(psi, f"{PSI}/input_keys/bob", ["uid"], ["uidd"], f"{PSI_PATH}.input_keys.bob.0",
         "bob's dataset people has no column 'uidd'; did you mean 'uid'?"),
    Rule(psi, f"{PSI}/input_keys/bob", ["uid"], ["uid", "age"], f"{PSI_PATH}.input_keys", "name as many at each party"),
    Rule(psi, f"{PSI}/input_keys/bob", ["uid"], ["uid", "uid"], f"{PSI_PATH}.input_keys", "name each column once"),
    Rule(psi, f"{PSI}/input_keys/bob", ["uid"], [], f"{PSI_PATH}.input_keys", "no key column"),
    Rule(psi, f"{PSI}/input_keys/bob", ["uid"], ..., f"{PSI_PATH}.input_keys.bob", "is required; name bob's key"),
    Rule(psi, f"{PSI}/input_keys", {"alice": ["uid"], "bob": ["uid"]}, {p: ["uid"] for p in ("alice", "bob", "carol")},
         f"{PSI_PATH}.input_keys.carol", "is not a party of sf_init_config"),
    Rule(psi, f"{PSI}/protocol", "PROTOCOL_ECDH_NPC", "PROTOCOL_ECDH_3PC", f"{PSI_PATH}.protocol",
         "PROTOCOL_ECDH_3PC needs exactly 3 parties, the cluster has 2"),
    Rule(psi_of_three, f"{PSI}/protocol", "PROTOCOL_ECDH_3PC", "PROTOCOL_RR22", f"{PSI_PATH}.protocol",
         "PROTOCOL_RR22 needs exactly 2 parties, the cluster has 3", TRIAL),
    Rule(psi, f"{PSI}/join_type", "full_join", "outer_join", f"{PSI_PATH}.join_type", "should be 'inner_join'"),
    Rule(psi, f"{PSI}/join_type", "difference", "left_join", f"{PSI_PATH}.left_side", "left_join needs it"),
    Rule(psi_of_left_join, f"{PSI}/join_type", "right_join", "full_join", f"{PSI_PATH}.left_side",
         "full_join has no sides; remove it"),
    Rule(psi_of_left_join, f"{PSI}/left_side", "bob", "carol", f"{PSI_PATH}.left_side", "should be one of alice, bob"),
    Rule(psi, f"{PSI}/duplicate_keys", ["bob"], ["bob", "carol"], f"{PSI_PATH}.duplicate_keys.1",
         "should be one of alice, bob"),
    Rule(psi_of_left_join, f"{PSI}/protocol", "PROTOCOL_ECDH", "PROTOCOL_ECDH_NPC", f"{PSI_PATH}.join_type",
         "PROTOCOL_ECDH_NPC does inner joins alone; use one of PROTOCOL_RR22"),
    Rule(psi_of_three, f"{PSI}/duplicate_keys", [], ["bob"], f"{PSI_PATH}.duplicate_keys",
         "PROTOCOL_ECDH_NPC takes unique keys alone"),
    Rule(
        psi, PSI,
        psi()["task_config"]["algorithm_params"]["psi_params"]
        | {"protocol": "PROTOCOL_ECDH", "ecdh_curve": "CURVE_FOURQ"},
        psi()["task_config"]["algorithm_params"]["psi_params"] | {"ecdh_curve": "CURVE_FOURQ"},
        f"{PSI_PATH}.ecdh_curve", "PROTOCOL_RR22 would ignore it; remove it",
    ),
    # regression
    Rule(lr, f"{ML}/features/alice", ["age", "number"], ["note"], f"{ML_PATH}.features.alice.0",
         "column 'note' is of type str; should be bool or float or int"),
    Rule(lr, f"{ML}/features/alice", ["age"], ["aeg"], f"{ML_PATH}.features.alice.0", "did you mean 'age'?"),
    Rule(lr, f"{ML}/features/alice", ["age"], [], f"{ML_PATH}.features.alice", "is empty; name at least one column"),
    Rule(lr, f"{ML}/features/alice", ["age"], ["age", "age"], f"{ML_PATH}.features.alice", "names a column twice"),
    Rule(lr, f"{ML}/features", {"alice": ["age"]}, {"bob": ["age"]}, f"{ML_PATH}.features.alice",
         "alice brings neither features nor the label"),
    Rule(lr, f"{ML}/features", {"alice": ["age"]}, {"alice": ["age"], "carol": ["age"]}, f"{ML_PATH}.features.carol",
         "is not a party of sf_init_config"),
    Rule(lr, f"{ML}/label/column", "label", "labl", f"{ML_PATH}.label.column", "did you mean 'label'?"),
    Rule(lr, f"{ML}/label/column", "label", "note", f"{ML_PATH}.label.column", "is of type str"),
    Rule(lr, f"{ML}/label/column", "label", "number", f"{ML_PATH}.label.column", "is also a feature"),
    Rule(lr, f"{ML}/label/party", "bob", "dave", f"{ML_PATH}.label.party", "should be one of alice, bob"),
    Rule(lr, f"{ML}/training_params", {"penalty": "l2", "l2_norm": 0.1}, {"l2_norm": 0.1},
         f"{ML_PATH}.training_params.l2_norm", "would be ignored without a penalty"),
    Rule(
        lr, ML,
        lr()["task_config"]["algorithm_params"]["ml_params"] | {"training_params": {"sig_type": "t3"}},
        lr()["task_config"]["algorithm_params"]["ml_params"]
        | {"training_params": {"sig_type": "t3"}, "model_type": "linear_regression"},
        f"{ML_PATH}.training_params.sig_type", "is for logistic regression, a linear one would ignore it",
    ),
    Rule(lr, f"{ML}/training_params", {"sig_type": "mix"}, {"sig_type": "real"}, f"{ML_PATH}.training_params.sig_type",
         "real gives wrong predictions in this version of SecretFlow; use t1, the fastest, or t3"),
    Rule(lr, "task_config/outputs", {"bob": "p"}, {"alice": "p"}, "task_config.outputs.alice",
         "only bob can keep the predictions"),
    # encrypted sums
    Rule(he_sum, "heu_config/enable_heu", True, False, "heu_config.enable_heu", "he_sum needs this device"),
    Rule(he_sum, f"{SUM}/bob", "number", ..., f"{SUM_PATH}.bob", "is required; name a column of bob"),
    Rule(he_sum, f"{SUM}/bob", "age", "agee", f"{SUM_PATH}.bob", "did you mean 'age'?"),
    Rule(he_sum, f"{SUM}/bob", "age", "note", f"{SUM_PATH}.bob", "should be bool or float or int"),
    Rule(he_sum, "task_config/data_sources", SOURCES, {"alice": "people"}, "task_config.data_sources.bob",
         "is required; name a dataset of bob"),
    Rule(he_sum, "task_config/outputs", {"alice": "sums"}, {}, "task_config.outputs.alice",
         "alice holds the key: name what it keeps the sums as"),
    Rule(he_sum, "task_config/outputs", {"alice": "sums"}, {"alice": "sums", "bob": "sums"}, "task_config.outputs.bob",
         "alice alone decrypts the sums"),
]  # fmt: skip
