"""Approvals that people give on this party's own host, where its policy says ``approve = "ask"``.

An approval names a digest of all that would run: the documents as this party would follow them, but for ports and
names of single runs. It is signed with the party's key, and lies on this host's disk: the control plane is told of it,
and can neither make nor widen one. Each execution that is let through takes a use of it, once for all its attempts.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workers.contract.endpoints import filled_in, split
from workers.contract.errors import ConfigError
from workers.contract.registry import DEVICE_REGISTRY
from workers.contract.reports import MOST_EXECUTIONS
from workers.contract.secrets import masked
from workers.contract.signing import SignatureRefused, Signer, Verifier
from workers.contract.validation import Run
from workers.contract.wording import Text
from workers.host.places import below
from workers.host.private_files import locked, replace_private

#: What the party's key signs an approval for.
PURPOSE = "approval"
#: Requests that are kept; of more the oldest are forgotten, and asked again if they still matter.
MOST_REQUESTS = 1000
#: How long an approval holds if nobody says otherwise, in days.
DAYS = 7.0


class NotApproved(ConfigError):
    """Nobody on this host has approved what would run."""


@dataclass(frozen=True, slots=True)
class Request:
    """Something that waits for a person, or was decided."""

    digest: str
    #: Those that ask for it.
    executions: list[str]
    asked_at: float
    #: The documents that would run, secrets masked.
    documents: dict[str, Any]
    state: str = "asked"


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person decided. Times are in seconds since the epoch."""

    digest: str
    by: str
    at: float
    uses: int
    until: float


def digest_of(party: str, run: Run) -> str:
    """Return a digest of all that a party would do in a run, secrets apart: equal for runs that an approval may cover
    together. It leaves out ports and the names of single runs."""
    cluster = run.cluster.model_dump(mode="json", exclude={"cluster", "job_name", "self_party"})
    hosts = {peer: split(place.address)[0] for peer, place in run.cluster.cluster.items()}
    devices = {
        layer: document.model_dump(mode="json", exclude=filled_in(DEVICE_REGISTRY[layer], document))
        for layer, document in run.devices.items()
    }
    documents = {"task_config": run.task.model_dump(mode="json", exclude={"column_types"})}
    rests_on = [party, cluster, hosts, masked(devices), masked(documents)]
    return hashlib.sha256(json.dumps(rests_on, sort_keys=True).encode()).hexdigest()


class Approvals:
    """The requests and approvals of this host, which all its processes share."""

    def __init__(self, directory: Path, signer: Signer) -> None:
        self.directory, self._signer = directory, signer

    def take(self, digest: str, execution: str) -> None:
        """Let an execution through that somebody approved, and count it, once for all its attempts. The approval has to
        hold at each of them. Raises NotApproved."""
        with self._locked():
            used = self._place(digest, "used")
            approval = self._approval(digest)
            if approval is None or approval.until < time.time():
                raise NotApproved(
                    "nobody on this host has approved it; `manage.py party approvals` there lists what waits"
                )
            if (used / execution).exists():
                return
            if len(list(used.iterdir()) if used.is_dir() else ()) >= approval.uses:
                raise NotApproved(
                    "its approval on this host has been used up; `manage.py party approve` there gives another"
                )
            used.mkdir(parents=True, exist_ok=True, mode=0o700)
            below(used, execution).touch(mode=0o600)

    def ask(self, digest: str, execution: str, documents: Mapping[str, Any]) -> None:
        """Note for people on this host that an execution waits for their approval."""
        with self._locked():
            if (self._place(digest) / "refused.json").exists():
                return
            before = self._read(self._place(digest, "request.json")) or {}
            asking = before["executions"] if before.get("state") == "asked" else []
            executions = [*(one for one in asking if one != execution), execution][-MOST_EXECUTIONS:]
            request = Request(digest, executions, before.get("asked_at", time.time()), masked(documents))
            self._write(self._place(digest, "request.json"), asdict(request))
            for old in self._requests()[:-MOST_REQUESTS]:
                self._place(old.digest, "request.json").unlink(missing_ok=True)

    def refusal_of(self, digest: str) -> str | None:
        """Return why people on this host refused it, which may be empty; None if they did not."""
        refused = self._read(self._place(digest, "refused.json"))
        return None if refused is None else str(refused.get("reason", ""))

    def waiting(self) -> list[Request]:
        """Return what nobody has decided yet, the oldest first."""
        with self._locked():
            return [request for request in self._requests() if request.state == "asked"]

    def find(self, start: str) -> Request:
        """Return the request whose digest begins so. Raises ConfigError unless there is exactly one."""
        with self._locked():
            found = [request for request in self._requests() if start and request.digest.startswith(start)]
        if len(found) != 1:
            how_many = "several requests begin" if found else "no request begins"
            raise ConfigError("{} with {!r}; `manage.py party approvals` lists them", Text(how_many), start)
        return found[0]

    def approve(self, request: Request, *, by: str, uses: int, days: float) -> Approval:
        """Sign an approval of a request, in place of an earlier decision; uses that were taken before count no more."""
        approval = Approval(request.digest, by, time.time(), uses, time.time() + days * 86_400)
        text = json.dumps(asdict(approval), sort_keys=True)
        with self._locked():
            for used in self._place(request.digest, "used").glob("*"):
                used.unlink()
            self._place(request.digest, "refused.json").unlink(missing_ok=True)
            signed = {"approval": text, "signature": self._signer.sign(PURPOSE, text.encode())}
            self._write(self._place(request.digest, "approved.json"), signed)
            self._decide(request, "approved")
        return approval

    def refuse(self, request: Request, *, reason: str) -> None:
        """Refuse a request, also one that was approved before."""
        with self._locked():
            self._place(request.digest, "approved.json").unlink(missing_ok=True)
            self._write(self._place(request.digest, "refused.json"), {"reason": reason})
            self._decide(request, "refused")

    def _decide(self, request: Request, state: str) -> None:
        self._write(self._place(request.digest, "request.json"), asdict(request) | {"state": state})

    def _approval(self, digest: str) -> Approval | None:
        """Return the approval of this digest, if this party's key signed it."""
        said = self._read(self._place(digest, "approved.json"))
        try:
            text = str(said["approval"])
            Verifier([self._signer.public_key]).check(PURPOSE, text.encode(), str(said["signature"]))
            approval = Approval(**json.loads(text))
        except (TypeError, KeyError, SignatureRefused):
            return None  # there is none, or another key's
        return approval if approval.digest == digest else None

    def _requests(self) -> list[Request]:
        found = []
        for path in self.directory.glob("*/request.json"):
            try:
                found.append(Request(**self._read(path)))
            except TypeError:
                continue
        return sorted(found, key=lambda request: request.asked_at)

    def _place(self, digest: str, *names: str) -> Path:
        path = below(self.directory, digest)
        for name in names:
            path = below(path, name)
        return path

    @staticmethod
    def _read(path: Path) -> Any:
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            return None

    @staticmethod
    def _write(path: Path, content: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_private(path, json.dumps(content))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self.directory):
            yield
