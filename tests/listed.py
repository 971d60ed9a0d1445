"""The lists of the admin, as tests read them."""

from __future__ import annotations

from typing import Any

from django.test import Client

EXECUTIONS, RUNS = "/admin/executions/execution/", "/admin/executions/pipelinerun/"
DATASETS, SCHEDULES = "/admin/controlplane/dataset/", "/admin/controlplane/schedule/"


def rows_of(admin: Client, url: str, **query: str) -> list[Any]:
    """The keys of the rows on a page of a list."""
    response = admin.get(url, query)
    assert response.status_code == 200
    return [row.pk for row in response.context["cl"].result_list]


def text_of(admin: Client, url: str, **query: str) -> str:
    """A page of a list, as HTML."""
    return admin.get(url, query).content.decode()
