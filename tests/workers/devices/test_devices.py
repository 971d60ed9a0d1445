"""SPU and HEU as their documents say, each in a real run: three parties' processes do one after the other.

The pipeline, the meeting, the links and the devices are the real ones; only worker and control plane are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.parties import Parties, Processes

pytestmark = pytest.mark.pipeline

THREE = ("alice", "bob", "carol")
TWO = THREE[:2]
NUMBERS = {
    "alice": [1.25, -3.5, 0.333, 7.0, -0.015625],
    "bob": [2.0, 1.75, -4.4, 0.5, 0.1],
    "carol": [0.5, -2.25, 1.1, 3.0, 4.0],
}
WHOLE = {"alice": [1, -3, 40, 7, 0], "bob": [2, 1, -4, 5, 1], "carol": [5, -2, 11, 3, 4]}


@pytest.fixture(scope="module")
def parties(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    found = Parties(processes, tmp_path_factory.mktemp("devices"), THREE)
    for name in THREE:
        found.table(name, "numbers", pd.DataFrame({"x": NUMBERS[name], "n": WHOLE[name]}))
    yield found
    found.close()


def run(parties: Parties, names: tuple[str, ...], task: dict[str, Any], **layers: Any) -> dict[str, Any]:
    return parties.answers({"data_sources": dict.fromkeys(names, "numbers")} | task, names, **layers)


def spu(protocol: str, field: str, **runtime: Any) -> dict[str, Any]:
    return {"runtime_config": {"protocol": protocol, "field": field} | runtime}


#: Fixed-point: a product is off by a few units of the last fraction bit, more or less by chance; what is revealed has
#: 24 bits itself.
@pytest.mark.parametrize(
    ("names", "document", "bits"),
    [
        (TWO, spu("SEMI2K", "FM32"), 8),
        (TWO, spu("SEMI2K", "FM64"), 18),
        (TWO, spu("SEMI2K", "FM64", fxp_fraction_bits=8), 8),
        (TWO, spu("SEMI2K", "FM128"), 24),
        (TWO, spu("CHEETAH", "FM64"), 18),
        (TWO, spu("CHEETAH", "FM128", fxp_fraction_bits=12), 12),
        (THREE, spu("SEMI2K", "FM64"), 18),
        (THREE, spu("SEMI2K", "FM128", fxp_fraction_bits=40), 24),
        (THREE, spu("ABY3", "FM64"), 18),
        (THREE, spu("ABY3", "FM128", fxp_fraction_bits=12), 12),
        (THREE, spu("SECURENN", "FM64"), 18),
    ],
)
def test_an_spu_computes_as_precisely_as_its_document_says(
    parties: Parties, names: tuple[str, ...], document: dict[str, Any], bits: int
) -> None:
    divides = document["runtime_config"]["field"] != "FM32"  # a ring too small for a division
    task = {"task_type": "arithmetic", "algorithm_params": {"arithmetic_params": {"column": "x", "divide": divides}}}
    answers = run(parties, names, task, spu_config=document)
    columns = np.array([NUMBERS[name] for name in names])
    clear = {
        "total": columns.sum(0), "product": columns.prod(0), "largest": columns.max(0), "sorted": np.sort(columns[0]),
    }  # fmt: skip
    if divides:
        clear["quotient"] = columns[0] / columns[-1]
    for answer in answers.values():
        off = {name: abs(np.array(answer["result_metadata"][name]) - found).max() for name, found in clear.items()}
        assert all(error < 2.0 ** (6 - bits) for name, error in off.items() if name != "quotient"), off
        # A comparison rounds nothing away: what is off is how the numbers are kept
        assert off["largest"] > 2.0 ** (-4 - bits), "more precise than the document asks for"
        assert off.get("quotient", 0) < 2.0 ** -min(bits - 6, 11), off
        assert answer["brought_up"] == ["SPU"], "the HEU is off"


@pytest.mark.parametrize(
    ("schema", "bits"),
    [
        ("paillier", 1024), ("paillier", 2048), ("zpaillier", 1024), ("fpaillier", 3072), ("ou", 1024), ("dgk", 1024),
        ("elgamal", 256),
    ],
)  # fmt: skip
def test_an_heu_makes_the_keys_that_its_document_says(parties: Parties, schema: str, bits: int) -> None:
    document: dict[str, Any] = {
        "sk_keeper": "bob",
        "he_parameters": {"schema": schema, "key_pair": {"generate": {"bit_size": bits}}},
    }
    if schema in ("dgk", "elgamal"):
        document["encoding"] = {"cleartext_type": "DT_I32", "encoder": "BigintEncoder"}
    columns = {"he_sum_params": {"columns": dict.fromkeys(TWO, "n")}}
    task = {"task_type": "he_sum", "outputs": {"bob": "sums"}, "algorithm_params": columns}
    answers = run(parties, TWO, task, heu_config=document)
    sums = pd.read_csv(parties.directory / "bob/outputs/sums.csv")["sum"].tolist()
    assert sums == pytest.approx([a + b for a, b in zip(WHOLE["alice"], WHOLE["bob"], strict=True)], abs=1e-4)
    assert answers["bob"]["brought_up"] == ["HEU", [schema, bits]], "the SPU is off"
    assert answers["alice"]["brought_up"] == ["HEU"], "the key pair is the keeper's"


def test_of_a_device_that_is_off_nothing_is_imported_or_started(parties: Parties) -> None:
    """SecretFlow's own package imports all of its devices as a whole; another package's engine is its own affair."""
    task = {"task_type": "light", "algorithm_params": {"light_params": {"rounds": 1}}}
    answers = run(parties, TWO, task, hsm_config={"enable_hsm": False, "token": "t"})
    for answer in answers.values():
        assert answer["result_metadata"] == {"total": 2}
        assert (answer["brought_up"], answer["engines"]) == ([], [])
