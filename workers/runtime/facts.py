"""What pre-flight checks found out about a run's files, so that the next ones do not read them again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from workers.contract.endpoints import filled_in
from workers.contract.errors import ConfigError
from workers.contract.registry import DEVICE_REGISTRY
from workers.contract.validation import Run
from workers.contract.wording import Text
from workers.host.gate import columns_in, note_columns
from workers.host.sources import Source
from workers.host.table_files import states_of

#: How long it is known that something is wrong, in seconds: a task type of another package may look at more than its
#: tables, and somebody who has put that right is not to be told the same for ever.
WRONG_SECONDS = 60.0


class Facts:
    """The facts of one check: those it was handed, and those it used or found."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known
        #: By key; for the worker to remember.
        self.used: dict[str, Any] = {}

    def about(self, what: Any, sources: Iterable[Source], find: Callable[[], Any]) -> Any:
        """Return what ``find`` returns, JSON, or once returned for the same question about the same files.

        ``what``: the question, as JSON. Raises what ``find`` raises, or raised a moment ago if that was ConfigError:
        anything else may pass.
        """
        key = _key_of(what, sources)  # before they are read: what is written to them meanwhile makes another key
        fact = self._known.get(key or "", {})
        if not ("found" in fact or 0 <= time.time() - fact.get("at", 0) < WRONG_SECONDS):
            try:
                fact = {"found": find()}
            except ConfigError as error:
                if type(error) is not ConfigError:
                    raise
                fact = {"wrong": error.text.as_json(), "columns": columns_in(error), "at": time.time()}
        if key is not None:
            self.used[key] = fact
        if "wrong" in fact:
            note_columns(fact["columns"])
            raise ConfigError(Text.from_json(fact["wrong"]))
        return fact["found"]


def _key_of(what: Any, sources: Iterable[Source]) -> str | None:
    """Return what stands for a question about files as they are now; None where one of them is not there."""
    try:
        files = [
            [s.name, s.kind, s.alignment, asdict(s.form), s.columns, dict(s.types), states_of(s.path, s.form)]
            for s in sources
        ]
    except (OSError, ValueError):
        return None
    return hashlib.sha256(json.dumps([what, files], sort_keys=True).encode()).hexdigest()


def question_of(run: Run, party: str) -> Any:
    """Return, as JSON, all of a run that the checks of a party's data go by.

    That leaves out where the parties meet, which differs from check to check, and the names of the outputs.
    """
    task = run.task.model_dump(mode="json", exclude={"outputs", "further_outputs", "keep_devices_seconds", "domain"})
    kept = {"": run.task.outputs} | run.task.further_outputs
    devices = {
        layer: document.model_dump(mode="json", exclude=filled_in(DEVICE_REGISTRY[layer], document))
        for layer, document in run.devices.items()
    }
    return [party, run.cluster.parties, task, {role: sorted(named) for role, named in kept.items()}, devices]
