"""What a rule is, and the valid documents that the rules of the table change in one place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fixtures.documents import psi_documents as fixture
from workers.contract.catalogue import TABLE, Security
from workers.contract.problems import DocumentsInvalid
from workers.contract.validation import validate

COLUMNS = {"uid": "str", "number": "int", "age": "float", "label": "int", "note": "str"}
#: What is there that is no table.
KINDS = {"model": "sf.model.ss_sgd", "rule": "sf.rule.preprocessing"}
Documents = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """A catalogue of three parties, each with the same two datasets, of which one was registered by hand."""

    security: Security = "production"
    addresses: Mapping[str, str | None] = field(default_factory=dict)
    parties: tuple[str, ...] = ("alice", "bob", "carol")
    public_keys: Mapping[str, str] = field(default_factory=lambda: {"alice": "a key", "bob": "a key"})

    def address(self, party: str) -> str | None:
        return self.addresses.get(party, "127.0.0.1")

    def datasets(self, party: str) -> dict[str, dict[str, str]]:
        return {"people": COLUMNS, "earlier": COLUMNS, **{name: {} for name in KINDS}}

    def kept_names(self, party: str) -> set[str]:
        return {"people"}

    def kind(self, party: str, name: str) -> str | None:
        return TABLE if name in ("people", "earlier") else KINDS.get(name)


TRIAL = Known(security="trial")
PARTIES = ("alice", "bob", "carol")
#: As on a party's host, where the documents alone say where the parties are.
AT_A_PARTY = Known(addresses=dict.fromkeys(PARTIES))


@dataclass(frozen=True)
class Rule:
    """``path`` (steps joined by ``/``) set to ``good`` passes; set to ``bad`` it gives a problem at ``where``.

    ``...`` for a value takes the key away. ``says`` is in the problem's message.
    """

    base: Callable[[], Documents]
    path: str
    good: Any
    bad: Any
    where: str
    says: str
    known: Known = Known()
    #: What is known in the good case, where that and not the value makes the difference.
    known_good: Known | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.says}"


def psi() -> Documents:
    return fixture("people")


def psi_of_three() -> Documents:
    three = ("alice", "bob", "carol")
    documents = fixture("people", data_sources=dict.fromkeys(three, "people"), outputs=dict.fromkeys(three, "common"))
    documents["sf_init_config"] = {"parties": list(three)}
    documents["task_config"]["algorithm_params"] = {
        "psi_params": {
            "input_keys": {party: ["uid"] for party in three},
            "receivers": list(three),
            "protocol": "PROTOCOL_ECDH_NPC",
        }
    }
    return documents


def psi_of_left_join() -> Documents:
    documents = psi()
    documents["task_config"]["algorithm_params"]["psi_params"] |= {"join_type": "left_join", "left_side": "alice"}
    return documents


def lr() -> Documents:
    return psi() | {
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


def component(name: str = "ml.train/ss_sgd_train", **more: Any) -> Documents:
    """A task that runs a component on age and note of alice, number and label of bob."""
    documents = fixture("people")
    columns = {"features": {"alice": ["age"], "bob": ["number"]}, "labels": {"bob": ["label"]}}
    documents["task_config"] |= {
        "task_type": "component",
        "outputs": {"alice": "made", "bob": "made"},
        "algorithm_params": {"component_params": {"component": name, "columns": {"input_ds": columns}} | more},
    }
    return documents


def component_of_statistics() -> Documents:
    documents = component("stats/table_statistics")
    documents["task_config"]["outputs"] = {}
    return documents


def component_with_choice() -> Documents:
    return component("data_filter/sample", attributes={})


def component_with_bound() -> Documents:
    documents = component("data_filter/condition_filter", attributes={"comparator": "<", "bound_value": "1"})
    documents["task_config"]["algorithm_params"]["component_params"]["columns"]["input_ds"]["select"] = {
        "feature": "age"
    }
    return documents


def component_with_model() -> Documents:
    documents = component("ml.predict/ss_sgd_predict", attributes={"receiver": "bob"})
    documents["task_config"] |= {
        "outputs": {"bob": "scores"},
        "further_sources": {"input_model": {"alice": "model", "bob": "model"}},
    }
    return documents


def component_of_two_tables() -> Documents:
    keys = {"input_ds1": {"ids": {"alice": ["uid"]}}, "input_ds2": {"ids": {"bob": ["uid"]}}}
    return component("data_prep/psi", columns=keys)


def he_sum() -> Documents:
    return psi() | {
        "spu_config": {"enable_spu": False},
        "heu_config": {},
        "task_config": {
            "task_type": "he_sum",
            "data_sources": {"alice": "people", "bob": "people"},
            "outputs": {"alice": "sums"},
            "algorithm_params": {"he_sum_params": {"columns": {"alice": "age", "bob": "number"}}},
        },
    }


def with_heu() -> Documents:
    return psi() | {"heu_config": {}}


def dispatched() -> Documents:
    """With the places at which the parties listen, as they are filled in at dispatch."""
    return psi() | {
        "sf_init_config": {
            "parties": ["alice", "bob"],
            "self_party": "alice",
            "cluster": {"alice": {"address": "127.0.0.1:20000"}, "bob": {"address": "127.0.0.1:20100"}},
        },
        "spu_config": {
            "nodes": [
                {"party": "alice", "address": "127.0.0.1:20001"},
                {"party": "bob", "address": "127.0.0.1:20101"},
            ]
        },
    }


def changed(documents: Documents, path: str, value: Any) -> Documents:
    documents = copy.deepcopy(documents)
    *parents, last = path.split("/")
    place: Any = documents
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if value is ...:
        place.pop(last, None)
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return documents


def problems(documents: Any, known: Known | None = None) -> dict[str, str]:
    """Path to message; empty where the documents are valid."""
    try:
        validate(documents, known or Known())
    except DocumentsInvalid as error:
        return {p.path: p.message for p in error.problems}
    return {}


def pseudonyms() -> Documents:
    """Of the tests' own device and task type (tests/plugin), which have a secret."""
    return psi() | {
        "spu_config": {"enable_spu": False},
        "hsm_config": {"token": "t"},
        "task_config": {
            "task_type": "pseudonymise",
            "data_sources": {"alice": "people", "bob": "people"},
            "algorithm_params": {"pseudonymise_params": {"columns": {"alice": "uid", "bob": "uid"}}},
        },
    }


BASES = (psi, psi_of_three, psi_of_left_join, lr, he_sum, with_heu, dispatched, pseudonyms)
