"""Validation of the four documents: every rule with a document that passes and one that fails."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.documents import psi_documents as fixture
from workers.executors.base import Security
from workers.problems import DocumentsInvalid
from workers.validation import layers, validate

COLUMNS = {"uid": "str", "number": "int", "age": "float", "label": "int", "note": "str"}


class Known:
    """A catalogue of two parties, each with one dataset."""

    parties = ("alice", "bob", "carol")
    security: Security = "production"

    def address(self, party: str) -> str:
        return "127.0.0.1"

    def datasets(self, party: str) -> dict[str, dict[str, str]]:
        return {"people": COLUMNS, "earlier": COLUMNS}

    def kept_names(self, party: str) -> set[str]:
        return {"people"}


def psi_documents() -> dict[str, Any]:
    return fixture("people")


def lr_documents() -> dict[str, Any]:
    return psi_documents() | {
        "task_config": {
            "task_type": "lr",
            "data_sources": {"alice": "people", "bob": "people"},
            "algorithm_params": {
                "ml_params": {
                    "features": {"alice": ["age"], "bob": ["number"]},
                    "label": {"party": "bob", "column": "label"},
                }
            },
        }
    }


def changed(documents: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    documents = copy.deepcopy(documents)
    *parents, last = path.split("/")
    place: Any = documents
    for step in parents:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return documents


def problems(documents: Any) -> dict[str, str]:
    try:
        validate(documents, Known())
    except DocumentsInvalid as error:
        return {p.path: p.message for p in error.problems}
    return {}


PSI = "task_config/algorithm_params/psi_params"
PSI_PATH = "task_config.algorithm_params.psi_params"
ML = "task_config/algorithm_params/ml_params"
ML_PATH = "task_config.algorithm_params.ml_params"

#: (base, path changed, value that passes, value that fails, path of the problem, words in its message)
RULES = [
    (psi_documents, "sf_init_config/parties", ["bob", "alice"], ["alice"], "sf_init_config.parties", "at least 2"),
    (psi_documents, "sf_init_config/parties", ["bob", "alice"], ["alice", "alice"], "sf_init_config.parties", "twice"),
    (
        psi_documents,
        "task_config/outputs",
        {"alice": "earlier", "bob": "new"},
        {"alice": "people", "bob": "new"},
        "task_config.outputs.alice",
        "people is a dataset that alice registered; choose another",
    ),
    (psi_documents, "sf_init_config/mode", "production", "debug", "sf_init_config.mode", "not offered yet"),
    (psi_documents, "sf_init_config/mode", "production", "prod", "sf_init_config.mode", "'production' or 'debug'"),
    (psi_documents, "sf_init_config/tls_config", None, {}, "sf_init_config.tls_config", "not offered yet"),
    (psi_documents, "sf_init_config/address", None, "auto", "sf_init_config.address", "not offered yet"),
    (psi_documents, "sf_init_config/logging_level", "info", "loud", "sf_init_config.logging_level", "should be"),
    (psi_documents, "sf_init_config/self_party", "bob", "carol", "sf_init_config.self_party", "one of alice, bob"),
    (
        psi_documents,
        "sf_init_config/cluster",
        {"alice": {"address": "h:1"}, "bob": {"address": "h:2"}},
        {"alice": {"address": "h:1"}},
        "sf_init_config.cluster",
        "should list alice, bob",
    ),
    (
        psi_documents,
        "sf_init_config/cluster",
        {"alice": {"address": "h:1"}, "bob": {"address": "h:2"}},
        {"alice": {"address": "h:1"}, "bob": {"address": "h:1"}},
        "sf_init_config.cluster",
        "h:1 is used twice",
    ),
    (
        psi_documents,
        "sf_init_config/cluster",
        {"alice": {"address": "h:65535"}, "bob": {"address": "[::1]:2"}},
        {"alice": {"address": "h:65536"}, "bob": {"address": "h:2"}},
        "sf_init_config.cluster.alice.address",
        "host:port",
    ),
    (
        psi_documents,
        "sf_init_config/cross_silo_comm_options",
        {"recv_timeout_ms": 5000},
        {"recv_timeout": 5000},
        "sf_init_config.cross_silo_comm_options.recv_timeout",
        "did you mean 'recv_timeout_ms'?",
    ),
    (psi_documents, "spu_config/enable_spu", True, False, "spu_config.enable_spu", "needs this device; set it to true"),
    (
        psi_documents,
        "spu_config/runtime_config",
        {"protocol": "CHEETAH"},
        {"protocol": "ABY3"},
        "spu_config.runtime_config.protocol",
        "needs exactly 3 parties, the cluster has 2; use SEMI2K or CHEETAH",
    ),
    (
        psi_documents,
        "spu_config/runtime_config",
        {"field": "FM64"},
        {"field": "FM256"},
        "spu_config.runtime_config.field",
        "'FM32', 'FM64' or 'FM128'",
    ),
    (psi_documents, "spu_config", {}, {"nods": []}, "spu_config.nods", "did you mean 'nodes'?"),
    (psi_documents, "spu_config", {}, [], "spu_config", "should be an object"),
    (
        psi_documents,
        "heu_config",
        {"sk_keeper": "bob", "evaluators": ["alice"]},
        {"sk_keeper": "carol"},
        "heu_config.sk_keeper",
        "should be one of alice, bob",
    ),
    (psi_documents, "heu_config", {}, {"evaluators": ["alice"]}, "heu_config.evaluators.0", "also the key keeper"),
    (
        psi_documents,
        "heu_config",
        {"he_parameters": {"schema": "ou"}},
        {"he_parameters": {"schema": "mock"}},
        "heu_config.he_parameters.schema",
        "should be",
    ),
    (
        psi_documents,
        "heu_config",
        {"he_parameters": {"schema": "ou"}},
        {"he_parameters": {"schem": "ou"}},
        "heu_config.he_parameters.schem",
        "did you mean 'schema'?",
    ),
    (psi_documents, "heu_config", {}, ..., "heu_config", '"enable_heu": false'),
    (psi_documents, "task_config/task_type", "psi", "psy", "task_config.task_type", "did you mean 'psi'?"),
    (
        psi_documents,
        "task_config/data_sources",
        {"alice": "people", "bob": "people"},
        {"alice": "peple", "bob": "people"},
        "task_config.data_sources.alice",
        "did you mean 'people'?",
    ),
    (
        psi_documents,
        "task_config/data_sources",
        {"alice": "people", "bob": "people"},
        {"alice": "people"},
        "task_config.data_sources.bob",
        "is required",
    ),
    (
        psi_documents,
        "task_config/data_sources",
        {"alice": "people", "bob": "people"},
        {"alice": "people", "bob": "../etc/passwd"},
        "task_config.data_sources.bob",
        "not a valid name",
    ),
    (
        psi_documents,
        "task_config/outputs",
        {"alice": "x", "bob": "y"},
        {"alice": "x"},
        "task_config.outputs.bob",
        "is required",
    ),
    (
        psi_documents,
        f"{PSI}/receivers",
        ["alice", "bob"],
        ["alice", "dave"],
        f"{PSI_PATH}.receivers.1",
        "not a party of sf_init_config",
    ),
    (
        psi_documents,
        f"{PSI}/receivers",
        ["alice", "bob"],
        ["alice"],
        "task_config.outputs.bob",
        "bob is not a receiver",
    ),
    (
        psi_documents,
        f"{PSI}/input_keys",
        {"alice": ["uid", "age"], "bob": ["uid", "age"]},
        {"alice": ["uid", "age"], "bob": ["uid"]},
        f"{PSI_PATH}.input_keys",
        "as many at each party",
    ),
    (
        psi_documents,
        f"{PSI}/input_keys",
        {"alice": ["uid"], "bob": ["note"]},
        {"alice": ["uid"], "bob": ["number"]},
        f"{PSI_PATH}.input_keys.bob.0",
        "is of type int, alice's is str",
    ),
    (
        psi_documents,
        f"{PSI}/input_keys",
        {"alice": ["uid"], "bob": ["uid"]},
        {"alice": ["uid"], "bob": ["uidd"]},
        f"{PSI_PATH}.input_keys.bob.0",
        "did you mean 'uid'?",
    ),
    (
        psi_documents,
        f"{PSI}/protocol",
        "PROTOCOL_ECDH_NPC",
        "PROTOCOL_ECDH_3PC",
        f"{PSI_PATH}.protocol",
        "exactly 3 parties",
    ),
    (psi_documents, f"{PSI}/join_type", "inner_join", "left_join", f"{PSI_PATH}.join_type", "should be 'inner_join'"),
    (lr_documents, f"{ML}/features", {"alice": ["age"], "bob": ["age"]}, {"alice": ["note"], "bob": ["age"]},
     f"{ML_PATH}.features.alice.0", "is of type str"),
    (lr_documents, f"{ML}/features", {"alice": ["age"]}, {"bob": ["age"]}, f"{ML_PATH}.features.alice", "neither"),
    (lr_documents, f"{ML}/features", {"alice": ["age"]}, {"alice": []}, f"{ML_PATH}.features.alice", "is empty"),
    (lr_documents, f"{ML}/label/column", "label", "labl", f"{ML_PATH}.label.column", "did you mean 'label'?"),
    (lr_documents, f"{ML}/label/column", "label", "number", f"{ML_PATH}.label.column", "also a feature"),
    (lr_documents, f"{ML}/label/party", "bob", "dave", f"{ML_PATH}.label.party", "one of alice, bob"),
    (lr_documents, f"{ML}/training_params", {"epochs": 1}, {"epochs": 0}, f"{ML_PATH}.training_params.epochs", "1"),
    (lr_documents, "task_config/outputs", {"bob": "p"}, {"alice": "p"}, "task_config.outputs.alice", "label's party"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "path", "good", "bad", "where", "words"), RULES)
def test_it_accepts_the_right_value_and_names_the_wrong_one(
    base: Any, path: str, good: Any, bad: Any, where: str, words: str
) -> None:
    assert problems(changed(base(), path, good)) == {}
    found = problems(changed(base(), path, bad))
    assert where in found
    assert words in found[where]


def test_it_reports_all_problems_of_all_documents_at_once() -> None:
    documents = changed(psi_documents(), "sf_init_config/partys", [])
    documents = changed(documents, "spu_config", {"runtime_config": {"protocol": "ABY"}})
    documents = changed(documents, f"{PSI}/protocol", 3)
    assert set(problems(documents)) == {
        "sf_init_config.partys",
        "spu_config.runtime_config.protocol",
        f"{PSI_PATH}.protocol",
    }


def test_it_refuses_an_unknown_document_and_a_missing_one() -> None:
    documents = psi_documents()
    documents["gpu_confg"] = documents.pop("spu_config")
    assert set(problems(documents)) >= {"gpu_confg", "spu_config"}


def test_it_never_repeats_a_value_it_refuses() -> None:
    secret = "hunter2-hunter2"
    for path in ("sf_init_config/mode", "spu_config/enable_spu", f"{PSI}/protocol", "task_config/outputs/alice"):
        found = problems(changed(psi_documents(), path, secret + " "))
        assert found
        assert secret not in str(found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = sorted({rule[1] for rule in RULES} | set(layers()))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([psi_documents, lr_documents]), st.sampled_from(PATHS), JSON)
def test_it_answers_any_json_with_problems_and_no_other_exception(base: Any, path: str, value: Any) -> None:
    try:
        documents = changed(base(), path, value)
    except (KeyError, TypeError):
        return
    try:
        validate(documents, Known())
    except DocumentsInvalid as error:
        assert error.problems  # noqa: PT017  any other exception fails the test
