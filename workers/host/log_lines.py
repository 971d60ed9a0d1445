"""Lines of a log as other software writes them: their level and place, and of which the text may leave this host.

Whatever SecretFlow, SPU, PSI, brpc or a library says may quote a cell, a column or a path. So of their lines the level
and the place in the code are told, and the text only if it is one of those below, which quote nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from workers.contract.logs import LEVELS, SOURCE_LENGTH, STAYS, TEXT_LENGTH, Line

#: Ways in which lines begin: spdlog's, as PSI and SPU have it, and as links have it; PSI's tracing; glog's, as brpc has
#: it; SecretFlow's own; Python's here.
_FORMS = [
    re.compile(r"\[\d{4}-\d\d-\d\d [\d:.]+\] \[(?P<level>\w+)\] \[(?P<source>[^\]\s]{1,200})\] (?P<text>.*)", re.S),
    re.compile(r"\d{4}-\d\d-\d\d [\d:.]+ \[(?P<level>\w+)\] \[(?P<source>[^\]\s]{1,200})\] (?P<text>.*)", re.S),
    re.compile(r"\[[\d.]+\] +(?P<level>)(?P<source>perfetto\.cc:\d+) (?P<text>.*)", re.S),
    re.compile(r"(?P<level>[IWEF])\d{4} [\d:.]+ +\d+(?: +\d+)? (?P<source>[^\]\s]{1,200})\] (?P<text>.*)", re.S),
    re.compile(r"\d{4}-\d\d-\d\d [\d:.]+ (?P<level>[A-Z]+) (?P<source>[\w.<>]+:\d+) \[[\w-]*\] -- (?P<text>.*)", re.S),
    re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]+) (?P<source>[\w.]+): (?P<text>.*)", re.S),
]
#: How many of these C++ has written: of the others this process knows more than the line says.
_NATIVE = _FORMS[:4]
_LEVELS = {"I": 20, "W": 30, "E": 40, "F": 50, "trace": 10, "warn": 30, "err": 40, "fatal": 50} | LEVELS
#: Source files of C++: a name, and a number.
_PLACE = re.compile(r"[A-Za-z_][\w-]{0,40}\.(?:cc|cpp|h|cxx|hpp)(?::BRPC)?:\d{1,6}")

_STEPS = r"Init|PreProcess|Online|PostProcess|Finalize"
_PARTIES = "|".join(
    ["AbstractPsiParty", "AbstractPsiReceiver", "AbstractPsiSender"]
    + [f"{kind}Psi{role}" for kind in ("Rr22", "Ecdh", "Kkrt") for role in ("Receiver", "Sender")]
)
#: Texts that quote nothing of this host: constants, and numbers that no table has made. None tells a number of rows.
_KNOWN = [
    re.compile(text)
    for text in (
        rf"\[(?:{_PARTIES})::(?:{_STEPS})\](?:\[(?:Check csv pre-process|Generate result|Recovery)\])? (?:start|end)",
        r"(?:begin|end) (?:vole (?:recv|send)|p xor a|compute self oprf)",
        r"(?:solve|recv rr22 oprf|get intersection) (?:begin|end)",
        r"call aes crhash",
        r"Create a fixed thread pool with size \d{1,4}",
        r"The default library used for BigInt operations is [a-z]{1,12}",
        r"Try init sf in PRODUCTION mode",
        r"set distribution mode to DISTRIBUTION_MODE\.PRODUCTION",
        r"Server\[yacl::link::transport::internal::ReceiverServiceImpl\] is serving on "
        r"(?:unix:link-\d+\.sock|port=\d+)\.",
        r"Fail to set concurrency by tag: \d+, tag concurrency should be larger than old o?concurrency\. "
        r"old concurrency: \d+, new concurrency: \d+",
        r"Already exposed `rpc_server_\d+_(?:error|eps|concurrency|uptime|start_time|connection_count|service_count|"
        r"builtin_service_count)' whose value is `[\d./:-]{1,40}'",
    )
]


def is_known(text: str) -> bool:
    """Return whether a text of other software is one that quotes nothing of this host."""
    return any(known.fullmatch(text) for known in _KNOWN)


def text_told(text: str) -> str:
    """Return what is told of a text of other software."""
    return text if is_known(text) else STAYS


def safe_line(text: str, at: float) -> Line | None:
    """Return what is told of a line that C++ has written; None if it is none, or there is nothing to tell of it."""
    for form in _NATIVE:
        if found := form.fullmatch(text):
            place = found["source"].rpartition("/")[2]
            if not _PLACE.fullmatch(place):
                return None
            return at, _level_of(found["level"]), place[-SOURCE_LENGTH:], text_told(found["text"])[:TEXT_LENGTH]
    return None


def whole_line(text: str, at: float, before: int, job: str = "") -> Line:
    """Return a line with all of its text, which is not to be cut before its secrets are out.

    ``before``: the level of the line before, which a line that begins like none continues. ``job``: its job's id, which
    need not be told with each line.
    """
    for form in _FORMS:
        if found := form.fullmatch(text):
            said = found["text"].removeprefix(f"{job}: ")
            return at, _level_of(found["level"]), found["source"].rpartition("/")[2][-SOURCE_LENGTH:], said
    return at, before, "", text


def at_least(lines: Iterable[str], level: int) -> Iterable[str]:
    """Yield the lines of a log of at least this level, with the lines that continue them."""
    known = LEVELS["info"]
    for text in lines:
        known = whole_line(text, 0.0, known)[1]
        if known >= level:
            yield text


def _level_of(name: str) -> int:
    return _LEVELS.get(name) or _LEVELS.get(name.lower(), LEVELS["info"])
