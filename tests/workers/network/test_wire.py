"""What a peer may send over SecretFlow's cross-silo link: data, over the real link and byte by byte."""

from __future__ import annotations

import builtins
import datetime
import functools
import importlib
import operator
import os
import pickle
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest

from tests.workers.network.test_rendezvous import ports as ports
from tests.workers.network.test_tls_links import NAMES, Session
from tests.workers.network.test_tls_links import session as session
from workers.network.wire import DATA, Refused, read, without_text, write


class Call:
    """Pickles as a call of a function, and with a state if one is given."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def named(module: str, name: str, *arguments: str) -> bytes:
    """A pickle that calls what a name leads to, dots and all."""
    texts = b"".join(pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode() for text in (module, name))
    given = b"".join(pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode() for text in arguments)
    call = pickle.STACK_GLOBAL + pickle.MARK + given + pickle.TUPLE + pickle.REDUCE
    return pickle.PROTO + b"\x04" + texts + call + pickle.STOP


@pytest.mark.pipeline
def test_a_message_that_would_run_code_is_refused_by_the_link(session: Session) -> None:
    session.crafted = True
    for name in NAMES:
        session.start(name, None)
    session.go(*NAMES)
    refused = "a message from bob was refused: it names builtins.exec, which is not data that parties exchange"
    said = session.hear("alice")
    assert not (session.directory / "alice" / "ran").exists()
    assert said == f"failed ConfigError {refused}"


@pytest.mark.parametrize(
    "function",
    [
        builtins.exec, builtins.eval, builtins.getattr, builtins.setattr, builtins.open, builtins.__import__,
        builtins.map, builtins.type, os.system, os.unlink, subprocess.Popen, functools.partial,
        functools.reduce, operator.attrgetter, operator.methodcaller, importlib.import_module, pickle.loads,
        np.load, np.save, pd.read_pickle, pd.read_csv, pd.eval, cloudpickle.loads, cloudpickle.cloudpickle.subimport,
        cloudpickle.cloudpickle._make_function,
    ],
    ids=lambda function: f"{function.__module__}.{function.__qualname__}",
)  # fmt: skip
def test_nothing_but_data_is_called(function: Any) -> None:
    with pytest.raises(Refused, match=r"it names [\w.]+, which is not data that parties exchange"):
        read(pickle.dumps(Call(function)))


@pytest.mark.parametrize(
    "value", [lambda: 1, os, Path(), ValueError("ssn 123")], ids=["function", "module", "path", "error"]
)
def test_functions_modules_and_other_objects_are_not_data(value: Any) -> None:
    with pytest.raises(Refused):
        read(cloudpickle.dumps(value))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("collections", "OrderedDict.__init__.__globals__"),
        ("secretflow.device.device.spu", "SPUIOInfo.__init__.__globals__"),
        ("secretflow.device.device.heu", "os.system"),
        ("builtins", "str.__class__"),
        ("workers.network.wire", "read"),
        ("builtins", "a" * 200),
        ("builtins", "exec\n/secret/path"),
    ],
)
def test_a_name_does_not_lead_on_to_others(module: str, name: str) -> None:
    with pytest.raises(Refused) as caught:
        read(named(module, name, "true"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize("message", [b"", b"\x80", b".", b"\x80\x04N", b"\x80\x04}\x94e.", b"Pname\n."])
def test_what_is_no_pickle_is_refused_in_a_sentence(message: bytes) -> None:
    with pytest.raises(Refused, match=r"^it is no message of SecretFlow's \(\w+\)$"):
        read(message)


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ("a class or a function", Call(OrderedDict, state=(None, {"x": 1}))),
        ("structured", np.zeros(2, [("a", "i4")])),
        ("structured", Call(np.dtype, [("a", "O")])),
        ("structured", Call(np.dtype, "V8", False, True, state=(3, "|", None, ("a",), {"a": ("O", 0)}, 8, 1, 0))),
        ("structured", Call(np.dtype, "f8", False, True, state=(3, "|", ("O", (1,)), None, None, 8, 1, 0))),
        ("structured", Call(np.dtype, "S8", False, True, state=(3, "|", None, None, None, 64, 1, 0))),
        ("flags", Call(np.dtype, "O8", False, True, state=(3, "|", None, None, None, -1, -1, 0))),
        ("no message", Call(np.ndarray, (1,), "O", b"AAAAAAAA")),
    ],
)
def test_bytes_are_not_taken_for_objects(said: str, made: Any) -> None:
    message = pickle.dumps(made)
    if said.startswith("a class"):  # the class itself, and not what it makes
        message = (
            pickle.dumps([OrderedDict])[:-2] + pickle.NONE + pickle.EMPTY_DICT + pickle.TUPLE2 + pickle.BUILD + b"."
        )
    with pytest.raises(Refused, match=said):
        read(message)


@pytest.mark.parametrize(
    "value",
    [
        {"seq_id": 1, "payload": [1, 2.5, "x", b"y", None, True, {3}, (4,), slice(1, 2), ...], "job": "j"},
        OrderedDict(a=datetime.date(2026, 11, 30)),
        [np.float32(1), np.bool_(1), np.dtype(">i4"), np.datetime64("2020-01-01", "ns")],
    ],
    ids=["message", "dates", "numbers"],
)
def test_data_arrives_as_it_was_sent(value: Any) -> None:
    assert read(write(value)) == value


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(6.0).reshape(2, 3).T,
        lambda: np.arange(10, dtype=">i8")[::2],
        lambda: np.array(["a", None, 3], object),
        lambda: np.array(["2020", "NaT"], "M8[us]"),
        lambda: np.array(["a", "bc"]),
        *(lambda code=code: np.ones(3, code) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?mM"),
    ],
)
def test_arrays_arrive_as_they_were_sent(make: Callable[[], Any]) -> None:
    sent, found = make(), read(write(make()))
    assert found.dtype == pickle.loads(pickle.dumps(sent)).dtype
    np.testing.assert_array_equal(found, sent)


@pytest.mark.parametrize("kind", [None, "Int64", "Float64", "boolean", "string", "category", "datetime64[ns]"])
def test_tables_arrive_as_they_were_sent(kind: str | None) -> None:
    sent = pd.DataFrame({"a": pd.Series([1, 0], dtype=kind), "b": ["x", None]}, index=[3, 5])
    pd.testing.assert_frame_equal(read(write(sent)), sent)


def test_an_error_is_sent_without_its_text() -> None:
    pytest.importorskip("secretflow")
    from secretflow.distributed.fed.exception import FedRemoteError

    sent = without_text(FedRemoteError("bob", KeyError("/secret/path")))
    found = read(write(sent))
    assert (type(found), found.party(), str(found.cause())) == (FedRemoteError, "bob", "KeyError")


def test_all_names_of_data_exist() -> None:
    """Otherwise one is written wrong, or gone with a new version."""
    pytest.importorskip("secretflow")
    for module, names in DATA.items():
        for name in names:
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
