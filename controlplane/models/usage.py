"""Who uses a registered row: shown before it is edited, reported when a change breaks it, and a bar to its deletion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model, ProtectedError, QuerySet, TextField
from django.db.models.functions import Cast
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils.translation import gettext

from controlplane.models.catalogue import ComposingCatalogue
from controlplane.models.configuration import ClusterConfig, Configuration, DeviceConfig
from controlplane.models.dataset import Dataset
from controlplane.models.party import Party
from controlplane.models.pipeline import Pipeline
from controlplane.models.site import Site
from controlplane.models.task import Task
from controlplane.models.versioned import about_to_be_renamed
from workers.contract.problems import DocumentsInvalid, Problem

#: How many tasks are validated after a change, at most: each takes a few queries.
MOST_CHECKED = 50


def tasks_using(row: Model) -> QuerySet[Task]:
    """Return the tasks that use a row: a configuration, a party, a dataset, or the site (all tasks depend on its
    tier)."""
    tasks = Task.objects.all()
    if isinstance(row, Dataset):
        # not a lookup by the party's name: Django would read a name such as "in" or "a__b" as something else
        rows = _mentioning(tasks, row.name).order_by()
        sources = rows.values_list("pk", "document__data_sources", "document__further_sources")
        named = [
            pk
            for pk, main, further in sources
            for source in (main, *(further.values() if isinstance(further, dict) else ()))
            if isinstance(source, dict) and source.get(row.party.name) == row.name
        ]
        return tasks.filter(pk__in=named)
    if isinstance(row, Party):
        return tasks.filter(cluster__in=[cluster.pk for cluster in _clusters_of(row)])
    if isinstance(row, DeviceConfig):
        named = [task.pk for task in tasks.only("devices").order_by() if task.devices.get(row.layer) == row.name]
        return tasks.filter(pk__in=named)
    if isinstance(row, Configuration):
        used_by: Any = row
        return tasks.filter(pk__in=used_by.tasks.order_by().values("pk"))
    return tasks if isinstance(row, Site) else tasks.none()


def _clusters_of(party: Party) -> list[ClusterConfig]:
    # in Python: SQLite has no operator for "is in this JSON list"
    clusters = _mentioning(ClusterConfig.objects.all(), party.name)
    return [c for c in clusters if party.name in c.document.get("parties", ())]


def _mentioning(rows: QuerySet[Any], name: str) -> QuerySet[Any]:
    """Return the rows whose document has this text somewhere: a party's or a dataset's name, of which JSON escapes
    nothing."""
    return rows.annotate(text=Cast("document", TextField())).filter(text__contains=f'"{name}"')


def named_by(row: Model) -> list[Any]:
    """Return what names a row in a document: no foreign key keeps such a row from being deleted."""
    if isinstance(row, Party):
        return list(_clusters_of(row))
    if isinstance(row, Task):
        return list(Pipeline.naming(row.name))
    return list(tasks_using(row)) if isinstance(row, Dataset | DeviceConfig) else []


# A signal: deleting many rows at once calls no method of the model
@receiver(pre_delete, sender=Party)
@receiver(pre_delete, sender=Dataset)
@receiver(pre_delete, sender=DeviceConfig)
@receiver(pre_delete, sender=Task)
def protect(instance: Model, **_: Any) -> None:
    if users := named_by(instance):
        raise ProtectedError(f"{instance} is named by {', '.join(map(str, users))}", set(users))


@receiver(about_to_be_renamed, sender=DeviceConfig)
def keep_name_of_device(before: DeviceConfig, **_: Any) -> None:
    if users := named_by(before):
        raise ValidationError(
            gettext("Tasks name it, so it keeps its name and device: {some}.").format(some=_some(users))
        )


@receiver(about_to_be_renamed, sender=Task)
def keep_name_of_task(before: Task, **_: Any) -> None:
    if users := named_by(before):
        raise ValidationError(
            {"name": gettext("Pipelines name it, so it keeps its name: {some}.").format(some=_some(users))}
        )


def _some(rows: list[Any]) -> str:
    return ", ".join(str(row) for row in rows[:20])


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of a change on the tasks that use the changed row."""

    users: int
    #: Tasks that are not valid now, each with its problems.
    invalid: list[tuple[Task, list[Problem]]] = field(default_factory=list)
    #: Number of tasks that were not validated.
    unchecked: int = 0


def effect_on(tasks: QuerySet[Task]) -> Effect:
    """Return the effect of a change on these tasks: validates up to MOST_CHECKED of them."""
    users = tasks.count()
    return Effect(users, list(invalid_among(tasks)), max(users - MOST_CHECKED, 0))


def invalid_among(tasks: QuerySet[Task]) -> Iterator[tuple[Task, list[Problem]]]:
    known = ComposingCatalogue(Task.objects.all())  # read once for all of them
    for task in tasks.select_related("cluster", "spu", "heu").order_by("name")[:MOST_CHECKED]:
        try:
            task.validate(known.without(task.pk))
        except DocumentsInvalid as error:
            yield task, error.problems
