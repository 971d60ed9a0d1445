"""What a peer's message over SecretFlow's cross-silo link may be made of: data, and nothing that runs.

SecretFlow exchanges pickles, and a pickle names what is called to make its objects. SecretFlow refuses some names
(``eval``, ``system``) and takes all others (``exec``), so that a peer could run code here. This module takes the names
below and refuses all others, over ``brpc_link`` and ``grpc`` alike. They are what our executors and components were
seen to exchange (docs/secretflow.md), and the other forms of the same kinds of data.

A name is added only if calling it with any arguments does no more than make a value. SecretFlow's data classes are
named one by one for that reason: some of its other classes run SQL or start processes.
"""

from __future__ import annotations

import io
import pickle
import re
import types
from collections.abc import Callable
from functools import cache
from typing import Any

from workers.contract.errors import ConfigError

#: By module, the names that are looked up there.
DATA: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "builtins": (
            "Ellipsis RuntimeError bool bytearray bytes complex dict float frozenset int list range set slice str tuple"
        ),
        "collections": "Counter OrderedDict defaultdict deque",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "numpy.core.multiarray": "scalar",
        "numpy.core.numeric": "_frombuffer",
        "numpy": (
            "bool_ bytes_ datetime64 float16 float32 float64 int8 int16 int32 int64 str_ uint8 uint16 uint32 uint64"
        ),
        "jax._src.api": "ShapeDtypeStruct",
        "jax._src.array": "_reconstruct_array",
        # Functions of arrays that SPU's models hold
        "jax._src.numpy.linalg": "norm",
        "jax._src.scipy.special": "expit",
        "scipy.sparse._coo": "coo_matrix",
        "scipy.sparse._csc": "csc_matrix",
        "scipy.sparse._csr": "csr_matrix",
        "pandas._libs.arrays": "__pyx_unpickle_NDArrayBacked",
        "pandas._libs.internals": "_unpickle_block",
        "pandas._libs.missing": "NA",
        "pandas._libs.tslibs.nattype": "__nat_unpickle",
        "pandas._libs.tslibs.timestamps": "_unpickle_timestamp",
        "pandas.core.arrays.boolean": "BooleanArray BooleanDtype",
        "pandas.core.arrays.categorical": "Categorical",
        "pandas.core.arrays.datetimes": "DatetimeArray",
        "pandas.core.arrays.floating": "FloatingArray Float32Dtype Float64Dtype",
        "pandas.core.arrays.integer": (
            "IntegerArray Int8Dtype Int16Dtype Int32Dtype Int64Dtype UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype"
        ),
        "pandas.core.arrays.string_": "StringArray StringDtype",
        "pandas.core.arrays.timedeltas": "TimedeltaArray",
        "pandas.core.dtypes.dtypes": "CategoricalDtype DatetimeTZDtype",
        "pandas.core.frame": "DataFrame",
        "pandas.core.indexes.base": "Index _new_Index",
        "pandas.core.indexes.multi": "MultiIndex",
        "pandas.core.indexes.numeric": "Float64Index Int64Index UInt64Index",
        "pandas.core.indexes.range": "RangeIndex",
        "pandas.core.internals.managers": "BlockManager SingleBlockManager",
        "pandas.core.series": "Series",
        "pytz": "_UTC",
        "pyarrow.lib": (
            "_reconstruct_record_batch _reconstruct_table chunked_array decimal128 dictionary field list_ "
            "py_buffer schema timestamp type_for_alias"
        ),
        "heu.numpy": "CiphertextArray PlaintextArray StringArray",
        "heu.phe": "PublicKey",
        "spu.libspu": "Executable FieldType ProtocolKind Visibility",
        "secretflow.component.preprocessing.binning.base": "BinningRunner",
        "secretflow.component.stats.stats_psi": "PsiBinInfo PsiInfos",
        "secretflow.data.core.base": "AgentIndex",
        "secretflow.device.device.spu": "SPUIOInfo SPUValueMeta",
        "secretflow.distributed.fed.exception": "FedRemoteError",
        "secretflow.preprocessing.binning.vert_woe_binning_pyu": "ParticipantTransactionInfo",
        "secretflow.preprocessing.scaler": "_STDScaler",
        "secretflow.stats.core.biclassification_eval_core": "EqBinReport GroupReport PrReport Report SummaryReport",
        "secretflow.stats.core.prediction_bias_core": "BucketPredictionBiasReport PredictionBiasReport",
        "sml.cluster.kmeans": "KMEANS",
        "sml.gaussian_process._gpc": "GaussianProcessClassifier _BinaryGaussianProcessClassifierLaplace",
        "sml.gaussian_process.kernels": "RBF",
        "sml.gaussian_process.ovo_ovr": "OneVsRestClassifier",
        "sml.naive_bayes.gnb": "GaussianNB",
        "sml.neighbors.knn": "KNNClassifer",
    }.items()
}

#: Stands for numpy's class of arrays, which takes any bytes for pointers to objects if it is called.
_ARRAY = object()
#: A type code that numpy's data types are made from: no structure, and so no field that hides an object.
_TYPE_CODE = re.compile(r"[biufcmMOSU]\d{1,9}")
#: What is shown of a refused name.
_SHOWN = re.compile(r"[\w.]{1,80}", re.ASCII)


class Refused(Exception):
    """A message is not made of data alone; the text says what it names, and holds nothing else of the message."""


def narrow() -> None:
    """Make SecretFlow's links of this process take messages of :data:`DATA` alone, and send errors without a text."""
    from secretflow.distributed.fed.exception import FedRemoteError
    from secretflow.distributed.fed.proxy.brpc_link import brpc_link
    from secretflow.distributed.fed.proxy.grpc import grpc
    from secretflow.utils.secure_pickle import FilterType

    form = types.SimpleNamespace(loads=lambda message, **_: read(message), dumps=write, FilterType=FilterType)
    for module, proxy in ((brpc_link, brpc_link.BrpcLinkProxy), (grpc, grpc.GrpcProxy)):
        module.secure_pickle = form

        def recv(self: Any, peer: str, number: Any, receive: Callable[..., Any] = proxy.recv) -> Any:
            try:
                return receive(self, peer, number)
            except Refused as error:
                raise ConfigError(f"a message from {peer} was refused: {error}") from None

        def send(self: Any, peer: str, value: Any, number: Any, pass_on: Callable[..., Any] = proxy.send) -> Any:
            return pass_on(self, peer, without_text(value) if isinstance(value, FedRemoteError) else value, number)

        proxy.recv, proxy.send = recv, send


def write(value: Any) -> bytes:
    """Return the message for a value, as SecretFlow makes it, but with JAX's own functions by their names."""
    file = io.BytesIO()
    _writer()(file).dump(value)
    return file.getvalue()


@cache
def _writer() -> Any:
    import cloudpickle

    class Writer(cloudpickle.Pickler):  # type: ignore[misc,name-defined,unused-ignore]
        def reducer_override(self, value: Any) -> Any:
            # A compiled function would go as its code, which the peer refuses; SPU's models hold some of these
            if type(value).__name__ == "PjitFunction" and value.__qualname__ in DATA.get(value.__module__, ()):
                return value.__qualname__
            return super().reducer_override(value)

    return Writer


def without_text(error: Any) -> Any:
    """Return a FedRemoteError as it is sent: its cause may be of any class, which the peer would refuse, and may quote
    paths and rows."""
    return type(error)(error.party(), RuntimeError(type(error.cause()).__name__))


def read(message: bytes) -> Any:
    """Return the value of a message. Raises Refused, before anything that it names is called, if that is not data."""
    try:
        return _Reader(message).load()
    except (Refused, MemoryError):
        raise
    except Exception as error:
        raise Refused(f"it is no message of SecretFlow's ({type(error).__name__})") from None


class _Reader(pickle._Unpickler):  # type: ignore[misc,name-defined,unused-ignore]
    """Python's own reader of pickles, in Python: the one in C does not let its steps be checked."""

    dispatch = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined,unused-ignore]

    def __init__(self, message: bytes) -> None:
        super().__init__(io.BytesIO(message))
        self.named: list[Any] = []

    def find_class(self, module: str, name: str) -> Any:
        if name in DATA.get(module, ()):
            found = super().find_class(module, name)
            self.named.append(found)
            return found
        if (module, name) in _CHECKED:
            return _CHECKED[module, name]
        named = f"{module}.{name}"
        raise Refused(
            f"it names {named if _SHOWN.fullmatch(named) else 'something'}, which is not data that parties exchange"
        )

    def load_build(self) -> None:
        """Set an object's state: not that of a class or function, which has none of a peer's, nor what numpy takes the
        contents of an array for, which could make it read bytes as pointers.
        """
        import numpy as np

        target, state = self.stack[-2:]  # type: ignore[attr-defined,unused-ignore]
        if isinstance(target, type) or any(target is found for found in [*self.named, *_CHECKED.values()]):
            raise Refused("it changes a class or a function")
        if isinstance(target, np.dtype):
            _, _, base, names, fields, size, alignment, *_ = state
            plain = (base, names, fields) == (None, None, None)
            if not plain or size not in (-1, target.itemsize) or alignment not in (-1, target.alignment):
                raise Refused("it holds a structured numpy type")
        super().load_build()  # type: ignore[misc,unused-ignore]
        if isinstance(target, np.dtype) and target.flags != np.dtype(target.str).flags:
            raise Refused("it holds a numpy type with other flags than its own")

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment,unused-ignore]


def _type(code: str, align: bool = False, copy: bool = True) -> Any:
    if not isinstance(code, str) or not _TYPE_CODE.fullmatch(code):
        raise Refused("it holds a structured numpy type")
    import numpy as np

    return np.dtype(code, False, True)


def _empty_array(kind: Any, shape: Any, code: Any) -> Any:
    if kind is not _ARRAY:
        raise Refused("it holds a numpy array of another class")
    import numpy as np

    return np.ndarray((0,), "b")


def _arrow_array(parts: Any) -> Any:
    from pyarrow.lib import _restore_array

    made = _restore_array(parts)
    made.validate(full=True)  # Arrow believes its offsets and lengths, and would read beyond its buffers
    return made


#: Names for which something else is handed out, that checks what it is given.
_CHECKED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _type,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("pyarrow.lib", "_restore_array"): _arrow_array,
}
