"""The name of one party's run of one attempt. Files and directories on the party's host bear it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workers.contract.orders import OrderRefused

#: More attempts than any policy of retries makes. What a party counts by executions (approvals, uses of a dataset) is
#: worth no more than so many runs of one.
MOST_ATTEMPTS = 20
ATTEMPT = re.compile(r"[1-9]|1[0-9]|20")


@dataclass(frozen=True, slots=True)
class RunName:
    """An execution's UUID, in its usual form, and the number of the attempt."""

    execution: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.execution}-{self.attempt}"

    def job_of(self, party: str) -> str:
        """Return the id of the job in which a party does its part."""
        return f"{party}-{self}"

    @classmethod
    def of(cls, task_request_id: Any, documents: Mapping[str, Any]) -> RunName:
        """Return the name that a job's arguments say; its first attempt if they say none. Raises OrderRefused for
        anything else: whoever can write to the queue can write anything there."""
        try:
            is_usual = str(UUID(task_request_id)) == task_request_id
        except (ValueError, TypeError, AttributeError):
            is_usual = False
        if not is_usual:
            raise OrderRefused("task_request_id is no UUID in its usual form")
        cluster = documents.get("sf_init_config")
        said = cluster.get("job_name") if isinstance(cluster, Mapping) else None
        if said is None:
            return cls(task_request_id, 1)
        execution, _, attempt = said.rpartition("-") if isinstance(said, str) else ("", "", "")
        if execution != task_request_id or not ATTEMPT.fullmatch(attempt):
            raise OrderRefused("sf_init_config.job_name is not the task_request_id with an attempt's number")
        return cls(task_request_id, int(attempt))
