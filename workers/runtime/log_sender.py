"""Sends what the policy lets out of the logs of runs: lines that Redis does not take are dropped, and nothing waits for
them."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.exceptions import RedisError

from workers.contract.connection import connect
from workers.contract.errors import ConfigError
from workers.contract.logs import MESSAGE_LIMIT, MOST_LINES, STAYS, TEXT_LENGTH, Line
from workers.contract.run_name import RunName
from workers.contract.secrets import secrets_of
from workers.host.gate import Gate
from workers.host.key import with_secrets_opened
from workers.host.party import PartyHost
from workers.host.stream import Stream
from workers.runtime.run_log import Mask, RunLog

log = logging.getLogger(__name__)

#: How long lines gather before they are sent, in seconds.
GATHER_SECONDS = 1.0
#: Room for the rest of a message, in bytes.
ENVELOPE = 400


class LogSender:
    """One thread of a worker, which begins with the first line that there is to send."""

    def __init__(self, host: PartyHost, redis_url: str) -> None:
        self._host, self._redis_url = host, redis_url
        self._stream: Stream | None = None
        #: Logs that have something to send, in their order.
        self._logs: dict[RunLog, None] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._news, self._hurry = threading.Event(), threading.Event()
        self._closing = False
        #: What the log was told last of why lines are dropped.
        self._told = ""

    def wake(self, run_log: RunLog) -> None:
        """Note that a log has something to send. Returns at once."""
        with self._lock:
            self._logs[run_log] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="logs", daemon=True)
                self._thread.start()
        if run_log.has_ended:
            self._hurry.set()
        self._news.set()

    def close(self, seconds: float = 1.0) -> None:
        """Send what is there, for so many seconds at most."""
        self._closing = True
        self._hurry.set()
        self._news.set()
        if self._thread:
            self._thread.join(seconds)

    def _serve(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            self._hurry.wait(GATHER_SECONDS)
            self._hurry.clear()
            with self._lock:
                logs, self._logs = self._logs, {}
            for run_log in logs:
                try:
                    self._send(run_log)
                except Exception:  # whatever it is, the other runs' lines are sent
                    log.exception("lines of a run's log were not sent")
            if self._closing:
                return

    def _send(self, run_log: RunLog) -> None:
        waiting, dropped = run_log.take()
        if waiting and run_log.masked is None:
            run_log.masked = self._mask_of(run_log)
        lines: list[Line] = []
        size = 0
        for at, level, source, text in waiting:
            line = (round(at, 3), level, source, run_log.masked(text)[:TEXT_LENGTH] if run_log.masked else STAYS)
            length = len(json.dumps(line, separators=(",", ":")))
            if len(lines) >= MOST_LINES or size + length > MESSAGE_LIMIT - ENVELOPE:
                self._put(run_log, lines, dropped)
                lines, size, dropped = [], 0, 0
            lines.append(line)
            size += length + 1
        if lines or dropped:
            self._put(run_log, lines, dropped)

    def _put(self, run_log: RunLog, lines: list[Line], dropped: int) -> None:
        run_log.number += 1
        message = {
            "task_request_id": run_log.run.execution,
            "party": self._host.name,
            "attempt": run_log.run.attempt,
            "sequence": run_log.number,
            "lines": lines,
            "dropped": dropped,
        }
        try:
            self._stream = self._stream or Stream(
                connect(self._redis_url, seconds=2, tries=1), self._host.name, self._host.signer
            )
            taken, why = self._stream.log(message), "the control plane has not read what was sent before"
        except (RedisError, OSError, ConfigError) as error:
            taken, why = False, type(error).__name__
        if not taken:
            run_log.give_up(dropped + len(lines))
            if why != self._told:
                log.warning("lines of a run's log were not sent, and are on this host alone: %s", why)
        self._told = "" if taken else why

    def _mask_of(self, run_log: RunLog) -> Mask:
        """Return what takes the secrets and the paths of this host out of a text of this run."""
        gate = Gate(run_log.host)
        try:
            secrets = [*_of_url(self._redis_url), *_of_documents(run_log.host, run_log.run, run_log.documents)]
        except Exception:  # what is a secret is not known
            return lambda text: STAYS
        return lambda text: gate.without_secrets(text, secrets)


def _of_url(url: str) -> list[str]:
    """Return the password of a URL of Redis, as it stands there and as it is meant."""
    parts = urlsplit(url)
    query = dict(part.split("=", 1) for part in parts.query.split("&") if "=" in part)
    found = {word for word in (parts.password, query.get("password")) if word}
    return [*found, *map(unquote, found)]


def _of_documents(host: PartyHost, run: RunName, documents: Mapping[str, Any]) -> list[str]:
    """Return the secrets that are in the clear in a run's process. Raises ConfigError, and other errors for documents
    that are none."""
    layers = {layer: document for layer, document in documents.items() if isinstance(document, Mapping)}
    if not any(secrets_of(layer, document) for layer, document in layers.items()):
        return []
    opened = with_secrets_opened(layers, host.key_path, str(run))
    return [secret for layer, document in opened.items() for secret in secrets_of(layer, document).values()]
