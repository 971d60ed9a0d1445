"""Pipelines: tasks that are run in an order."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import models
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from controlplane.documents.errors import document_errors
from controlplane.models.catalogue import ComposingCatalogue, DatabaseCatalogue
from controlplane.models.dataset import Dataset
from controlplane.models.task import Task
from controlplane.models.versioned import Versioned
from controlplane.pipelines.plan import Flow, Step
from workers.contract.problems import DocumentsInvalid


class Pipeline(Versioned):
    """Tasks to run in an order, each as a node. All nodes are in one document, so that a version holds all of them."""

    name = models.CharField(max_length=100, unique=True)
    description = models.CharField(max_length=200, blank=True)
    nodes = models.JSONField(
        default=dict,
        help_text=_(
            'Name to task and, where its data does not say so, what it comes after, such as {"train": '
            '{"task": "train a model", "after": ["scale"]}}.'
        ),
    )
    updated_at = models.DateTimeField(auto_now=True)

    names_parties = True

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def involving(cls, rows: QuerySet[Any], parties: Collection[str], wholly: bool = False) -> QuerySet[Any]:
        # in Python, as in ``naming``: which parties it involves changes with its tasks and their clusters
        tasks = set(Task.involving(Task.objects.order_by(), parties, wholly).values_list("name", flat=True))
        named = [(pipeline.pk, pipeline.task_names()) for pipeline in cls.objects.order_by().only("nodes")]
        found = [pk for pk, names in named if (names <= tasks if wholly else not names.isdisjoint(tasks))]
        return rows.filter(pk__in=found)

    def involved(self) -> set[str]:
        tasks = Task.objects.filter(name__in=self.task_names()).select_related("cluster")
        return {party for task in tasks for party in task.involved()}

    def flow(self) -> Flow:
        """Return the nodes that are right, with the problems of the others."""
        return Flow(self.nodes, Task.rows_within(self.within), Dataset.rows_within(self.within))

    def steps(self) -> list[Step]:
        """Return the nodes in their order, with the documents that would run now. Raises DocumentsInvalid with
        every problem of the whole."""
        try:
            return self.flow().examined(DatabaseCatalogue(self.within))
        except DocumentsInvalid as error:
            raise DocumentsInvalid([problem.under("nodes") for problem in error.problems]) from None

    def clean(self) -> None:
        try:
            self.flow().examined(ComposingCatalogue(Task.objects.all(), self.within))
        except DocumentsInvalid as error:
            raise document_errors({"nodes": error.problems}) from None

    @classmethod
    def naming(cls, task: str) -> list[Pipeline]:
        """Return the pipelines that run the task of this name."""
        # in Python: databases differ in how they query the values of a JSON object, and pipelines are few
        return [pipeline for pipeline in cls.objects.all() if task in pipeline.task_names()]

    def task_names(self) -> set[str]:
        return {str(node.get("task")) for node in self.nodes.values()}
