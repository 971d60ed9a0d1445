"""Which of a party's outputs are still named by something: a host may remove the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import Q

from controlplane.models import Dataset, Task
from executions.models import Execution, NodeRun
from executions.states import OPEN, PIPELINE_ACTIVE


def named_outputs(party: str, names: Iterable[str]) -> set[str]:
    """Return those of these names under which something is registered for the party, or which a task, an execution that
    is not over, or a node of a live pipeline run has anywhere in its document. A name too many keeps a file."""
    asked = set(names)
    found = set(Dataset.objects.filter(party__name=party, name__in=asked).values_list("name", flat=True))
    for document in _documents(party):
        if found == asked:
            break
        found |= asked.intersection(_texts(document))
    return found


def _documents(party: str) -> Iterator[Any]:
    """Yield every document of a task that runs or could run."""
    yield from Task.objects.order_by().values_list("document", flat=True).iterator()
    # Of an execution that has ended, the party's process may still be there
    unended = Q(status__in=OPEN)
    leaving = Q(pk__in=Execution.objects.filter(runs__released_at=None, runs__party__name=party).values("pk"))
    for which in (unended, leaving):
        documents = Execution.objects.filter(which).order_by().values_list("documents__task_config", flat=True)
        yield from documents.iterator()
    nodes = NodeRun.objects.filter(run__status__in=PIPELINE_ACTIVE).order_by()
    yield from nodes.values_list("documents__task_config", flat=True).iterator()


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a document's values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
