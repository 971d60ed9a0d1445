"""From SecretFlow's texts to our error classes; what leaves the party says nothing of its inside."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rq.timeouts import JobTimeoutException

from workers.contract.errors import (
    _RULES,
    ERRORS,
    AlgorithmError,
    ClusterInitError,
    ConfigError,
    DeviceConfigError,
    NetworkError,
    PeerError,
    ResourceError,
    SecretFlowTaskError,
    classify,
    contract_name,
)
from workers.contract.problems import DocumentsInvalid, Problem


def _fed_exceptions() -> ModuleType:
    """SecretFlow's own wrappers, from their file: the package around it takes seconds to import."""
    package = importlib.util.find_spec("secretflow")
    assert package
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "distributed/fed/exception.py"
    spec = importlib.util.spec_from_file_location("fed_exceptions", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fed = _fed_exceptions()
Wrap: TypeAlias = Callable[[Exception], Exception]

STACK = "\nstacktrace:\n#0 yacl::link::FactoryBrpc::CreateContext()+0x7fcaf1d2\n#1 /opt/lib/libspu.so+0x12"
PLACE = "[external/psi/psi/utils/table_utils.cc:247] host=10.1.2.3:9999 "
PATH = "/home/alice/secret/patients.csv"

#: Texts seen with SecretFlow 1.14.0b0 or the kernel's own.
SEEN: list[tuple[str, type[SecretFlowTaskError], str]] = [
    ("Paxos error, Duplicate keys were detected, uid=patient-0001", ConfigError, "hold duplicate values"),
    ("PSI configs are not consistent between parties", ConfigError, "different PSI parameters"),
    (f"table_utils.cc:247] columns uid,dob not found in table: {PATH}", ConfigError, "key column is missing"),
    (f"table_utils.cc:247] column uid not found in table: {PATH}", ConfigError, "key column is missing"),
    (f"join_processor.cc:38] bob input file {PATH} not exists.", ConfigError, "input table is missing"),
    ("type not found, semi2k.AShr", DeviceConfigError, "different SPU protocols or fields"),
    ("type mismatch semi2k.AShr<FM64> != semi2k.AShr<FM128>", DeviceConfigError, "different SPU protocols or fields"),
    ("JobName mis-match, expected jobalice, got jobbob", ConfigError, "different job names"),
    ("what: cfg.protocol != ProtocolKind::PROT_INVALID", DeviceConfigError, "does not suit the number of parties"),
    ("aby3 is only for 3pc", DeviceConfigError, "does not suit the number of parties"),
    ("Failed to listen on 127.0.0.1:9999: brpc server failed start", ResourceError, "port is already in use"),
    ("Failed to bind to address [::]:9999", ResourceError, "port is already in use"),
    ("Failed to create link: what: brpc server failed start", ResourceError, "port is already in use"),
    ("[Errno 98] Address already in use", ResourceError, "port is already in use"),
    ("Fail to initialize channel, host=nowhere.example:9999, err_code=-1", NetworkError, "cannot be resolved"),
    ("[Errno -2] Name or service not known", NetworkError, "cannot be resolved"),
    ("[Errno -3] Temporary failure in name resolution", NetworkError, "cannot be resolved"),
    (
        "Failed to listen on 127.0.0.1:9999, connect to mesh failed, failed to setup connection to rank=1",
        NetworkError,
        "link to a peer broke",
    ),
    ("Get data timeout, key=root:P2P-7:1->0", NetworkError, "link to a peer broke"),
    ("send failed: [E111]Connection refused", NetworkError, "link to a peer broke"),
    ("[Errno 104] Connection reset by peer", NetworkError, "link to a peer broke"),
    ("[Errno 110] Connection timed out", NetworkError, "link to a peer broke"),
    ("[Errno 113] No route to host", NetworkError, "link to a peer broke"),
    ("[Errno 101] Network is unreachable", NetworkError, "link to a peer broke"),
    ("[Errno 32] Broken pipe", NetworkError, "link to a peer broke"),
    ("[E112]Host is down", NetworkError, "link to a peer broke"),
    (
        'status = StatusCode.UNAVAILABLE details = "failed to connect to all addresses; last error: UNKNOWN: '
        "ipv4:10.1.2.3:9999: Ssl handshake failed: SSL_ERROR_SSL: error:1000007d:SSL "
        'routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED"',
        ConfigError,
        "TLS handshake with a peer failed",
    ),
    (
        'details = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.1.2.3:9999: '
        'Peer name bob is not in peer certificate"',
        ConfigError,
        "TLS handshake with a peer failed",
    ),
    ("status = StatusCode.UNAVAILABLE details = ...", NetworkError, "link to a peer broke"),
    ("status = StatusCode.DEADLINE_EXCEEDED", NetworkError, "link to a peer broke"),
    ("Deadline Exceeded", NetworkError, "link to a peer broke"),
    ("write failed: No space left on device", ResourceError, "disk is full"),
    ("[Errno 122] Disk quota exceeded", ResourceError, "disk is full"),
    ("Error writing bytes to file. Detail: [errno 27] File too large", ResourceError, "larger than this host lets"),
    (
        "what: \n\t[external/psi~/psi/utils/index_store.cc:109] writer WriteRecordBatch failed. \nStacktrace:\n",
        ResourceError,
        "PSI could not write its temporary files",
    ),
    ("std::bad_alloc", ResourceError, "memory ran out"),
    ("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes", ResourceError, "memory ran out"),
    ("[Errno 12] Cannot allocate memory", ResourceError, "memory ran out"),
]


def rooted(inner: Exception, kind: type[Exception] = RuntimeError) -> Exception:
    """The exception that is raised from another one."""
    outer = kind("the device failed")
    outer.__cause__ = inner
    return outer


def assert_says_nothing_of_the_inside(message: str) -> None:
    for secret in ("/", "10.1.2.3", "9999", "alice", "bob", "patient", "stacktrace", "yacl", "::", ".cc", "0x", "P2P"):
        assert secret not in message
    assert "\n" not in message


@pytest.mark.parametrize(("text", "kind", "words"), SEEN, ids=[text[:40] for text, _, _ in SEEN])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: e,
        lambda e: fed.FedLocalError(e),
        lambda e: fed.FedLocalError(fed.FedLocalError(e)),
        lambda e: rooted(fed.FedLocalError(e)),
    ],
    ids=["bare", "local", "local twice", "raised from"],
)
def test_it_maps_what_secretflow_says(wrap: Wrap, text: str, kind: type[SecretFlowTaskError], words: str) -> None:
    found = classify(wrap(RuntimeError(PLACE + text + STACK)))
    assert type(found) is kind
    assert words in str(found)
    assert not found.caused_by_peer
    assert_says_nothing_of_the_inside(str(found))


def test_it_has_seen_every_rule_at_work() -> None:
    said = {str(classify(RuntimeError(text))) for text, _, _ in SEEN}
    assert said == {message for _, _, message in _RULES}


def test_it_has_seen_every_alternative_of_every_rule() -> None:
    texts = [text.lower() for text, _, _ in SEEN]
    for pattern, _, _ in _RULES:
        # alternatives inside brackets are given one text each above
        for alternative in re.split(r"\|(?![^(]*\))", pattern.pattern):
            if alternative in ("failed to send", "failed to setup connection", "connect to mesh failed"):
                continue
            assert any(re.search(alternative, text) for text in texts), alternative


@pytest.mark.parametrize("text", [text for text, _, _ in SEEN])
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: fed.FedLocalError(e), rooted], ids=["bare", "local", "from"])
def test_it_blames_the_peer_for_what_a_peer_reports(wrap: Wrap, text: str) -> None:
    found = classify(wrap(fed.FedRemoteError("bob", RuntimeError(PLACE + text + STACK))))
    assert type(found) is PeerError
    assert found.caused_by_peer
    assert contract_name(found) == "NetworkError"
    assert_says_nothing_of_the_inside(str(found))


def test_it_blames_the_peer_even_for_an_error_of_ours_that_the_peer_met() -> None:
    found = classify(fed.FedRemoteError("bob", fed.FedLocalError(ConfigError("bob has no such column"))))
    assert type(found) is PeerError


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (MemoryError(), ResourceError, "memory ran out"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), PATH), ResourceError, "disk is full"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), PATH), ResourceError, "disk is full"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG), PATH), ResourceError, "larger than this host lets"),
        (OSError(errno.EADDRINUSE, "in gebruik", "10.1.2.3:9999"), ResourceError, "port is already in use"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), ResourceError, "memory ran out"),
        (ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)), NetworkError, "link to a peer broke"),
        (BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)), NetworkError, "link to a peer broke"),
        (TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)), NetworkError, "link to a peer broke"),
        (FileNotFoundError(errno.ENOENT, "No such file", PATH), ConfigError, "a file of this run is missing"),
        (PermissionError(errno.EACCES, "Permission denied", PATH), AlgorithmError, "failed with PermissionError"),
        (JobTimeoutException("Task exceeded maximum timeout value (660 seconds)"), AlgorithmError, "time limit"),
        (ZeroDivisionError("division by zero"), AlgorithmError, "failed with ZeroDivisionError"),
        (KeyError("patient-0001"), AlgorithmError, "failed with KeyError"),
        (KeyboardInterrupt(), AlgorithmError, "failed with KeyboardInterrupt"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_it_maps_pythons_own_errors_bare_and_wrapped(
    error: BaseException, kind: type[SecretFlowTaskError], words: str
) -> None:
    wrapped = [fed.FedLocalError(error), rooted(fed.FedLocalError(error))] if isinstance(error, Exception) else []
    for raised in [error, *wrapped]:
        found = classify(raised)
        assert type(found) is kind
        assert words in str(found)
        assert_says_nothing_of_the_inside(str(found))


def test_it_returns_an_error_of_ours_as_it_is() -> None:
    for kind in (*ERRORS.values(), PeerError):
        error = kind("label 'y' at alice has one class only")
        assert classify(error) is error


def test_it_finds_an_error_of_ours_that_was_raised_inside_a_call_of_secretflow() -> None:
    error = ConfigError("dataset a has no column 'y'")
    assert classify(fed.FedLocalError(error)) is error
    assert classify(rooted(fed.FedLocalError(error))) is error


def test_it_is_not_misled_by_an_error_that_was_dealt_with_before() -> None:
    error = ConfigError("no column 'y'")
    error.__context__ = fed.FedRemoteError("bob", RuntimeError("Connection reset"))
    assert classify(error) is error


def test_it_looks_at_errors_that_are_each_others_cause_once() -> None:
    one, two = RuntimeError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert str(classify(one)) == "the computation failed with ValueError; the party's worker log has the details"


@given(text=st.text(min_size=8).filter(lambda t: len(set(t)) > 3), depth=st.integers(0, 3))
def test_it_never_repeats_what_the_error_says(text: str, depth: int) -> None:
    error: Exception = RuntimeError(text)
    for _ in range(depth):
        error = fed.FedLocalError(error)
    found = classify(error)
    known = [message for _, _, message in _RULES]
    assert str(found) in [*known, "the computation failed with RuntimeError; the party's worker log has the details"]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ConfigError("x"), "ConfigError"),
        (DeviceConfigError("x"), "DeviceConfigError"),
        (DocumentsInvalid([Problem("a", "is wrong", "")]), "ConfigError"),
        (ClusterInitError("x"), "ClusterInitError"),
        (NetworkError("x"), "NetworkError"),
        (PeerError("x"), "NetworkError"),
        (ResourceError("x"), "ResourceError"),
        (AlgorithmError("x"), "AlgorithmError"),
        (SecretFlowTaskError("x"), "AlgorithmError"),
    ],
)
def test_it_names_a_class_of_the_contract(error: SecretFlowTaskError, name: str) -> None:
    assert contract_name(error) == name
    assert name in ERRORS
