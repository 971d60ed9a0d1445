"""What ``make scale`` measures: each list, filter, search, page, saving, submission, refusal and coordinator's step."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken
from redis import Redis
from rest_framework.test import APIClient

from controlplane.admin.guarded import SEEN
from controlplane.models import ClusterConfig, Dataset, Party, Pipeline, Schedule, Site, SPUConfig, Task
from executions.coordinator import pipelines, schedules
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.key import own_key
from executions.coordinator.listener import Listener
from executions.coordinator.recovery import Recovery
from executions.models import Execution, PartyRun, PipelineRun, Preflight
from executions.states import PipelineStatus, RunStatus, Status
from tests.composed import admin_client, api_client
from tests.keys import voice
from tests.simulated import a_second_later
from workers.contract.jobs import PartyJob
from workers.host.stream import Stream

#: A time in the middle of the past, as a cursor and a filter say it.
MIDDLE = "2026-06-01 00:00:00+00:00"
EVENTS = 500
NUMBERS = count(1)


class Case(NamedTuple):
    what: str
    run: Callable[[], Any]
    #: Done before each run, and not measured.
    prepare: Callable[[], Any] = lambda: None


def cases(connection: Redis) -> Iterator[Case]:
    """Yield everything that is measured, what changes the site last."""
    root = User.objects.get(username="root")
    browser, service = admin_client(root), api_client(root)
    for client in (browser, service):
        client.defaults["HTTP_HOST"] = "localhost"
    yield from _pages(browser)
    yield from _resources(service)
    yield from _refusals(browser, service)
    yield from _steps(connection)
    yield Case("metrics", _get(service, reverse("metrics")))
    yield from _saves(browser, service)
    yield from _submissions(browser, service)


def _get(client: Client, url: str, **query: Any) -> Callable[[], Any]:
    where = f"{url}?{urlencode(query, doseq=True)}" if query else url
    return lambda: _ok(client.get(where))


def _post(client: Client, url: str, body: Any) -> Any:
    return _ok(client.post(url, body))


def _refused(service: APIClient, url: str) -> Any:
    return _ok(service.delete(url), 409)


def _ok(response: Any, *expected: int) -> Any:
    assert response.status_code in (expected or (200,)), (response.request["PATH_INFO"], response.content[:2000])
    return response


# --- the admin

#: Filters of lists that are no links.
FILTERS = {
    "execution": [
        "?created_at_to_0=2026-06-01&created_at_to_1=00:00:00",
        "?created_at_to_0=2026-06-01&created_at_to_1=00:00:00&status__exact=FAILURE&p=2",
        "?task_type=lr&status__exact=FAILURE",
        "?q=task7&status__exact=FAILURE",
        "?party=party1000",
        "?party=party1007",
        "?party=nosuch",
        "?party=party1007&status__exact=FAILURE",
        "?party=party1000&created_at_to_0=2026-06-01&p=3",
        "?submitted_by=root",
        "?submitted_by=rare",
        "?submitted_by=rare&status__exact=SUCCESS",
        "?submitted_by=nosuch",
        "?submitted_by=root&party=party1007&status__exact=SUCCESS",
        "?label=team:risk",
        "?label=team:risk&p=3",
        "?label=env&o=5",
        "?label=env:rare&label=team:risk&status__exact=SUCCESS",
        "?label=env:nosuch",
        "?task__id__exact=7",
        "?task__id__exact=7&status__exact=FAILURE",
        "?q=00000000",
        "?q=0000abcd&status__exact=FAILURE",
    ],
    "pipelinerun": [
        "?created_at_to_0=2026-06-01&created_at_to_1=00:00:00",
        "?party=party1007",
        "?submitted_by=rare",
        "?pipeline__id__exact=7",
        "?q=0000abcd",
    ],
    "dataset": [
        "?party__id__exact=4", "?party__id__exact=4&q=table", "?state=differs", "?state=not reported", "?kind=table"
    ],
    "task": ["?cluster__id__exact=4", "?party=party1007", "?task_type=psi"],
}  # fmt: skip


def _object_of(model: type[Any]) -> Any:
    """Return a row with as much of a past as any."""
    if model is Execution:
        return Execution.objects.filter(status=Status.SUCCESS).order_by("-created_at").first()
    return model._default_manager.order_by("pk").first()


def _pages(browser: Client) -> Iterator[Case]:
    yield Case("front page", _get(browser, reverse("admin:index")))
    for model, model_admin in admin.site._registry.items():
        if model in (Site, Group) or not model._meta.managed:  # rq's dashboard, of Redis alone
            continue
        at, called = f"admin:{model._meta.app_label}_{model._meta.model_name}", f"admin, {model._meta.verbose_name}"
        url = reverse(f"{at}_changelist")
        first = _get(browser, url)().context_data["cl"]
        yield Case(f"{called}: list", _get(browser, url))
        last = max(1, min(first.paginator.num_pages, -(-model._default_manager.count() // first.list_per_page)))
        yield Case(f"{called}: list, last page", _get(browser, url, p=last))
        for number, name in enumerate(first.list_display):
            if number and name in first.sortable_by and first.get_ordering_field(name):
                yield Case(f"{called}: list by {name}", _get(browser, url, o=number))
        links = [choice.get("query_string", "?") for spec in first.filter_specs for choice in spec.choices(first)]
        for query in [*links[1:25], *FILTERS.get(model._meta.model_name, ())]:
            if query != "?":
                yield Case(f"{called}: list, {query.lstrip('?')}", _get(browser, url + query))
        if model_admin.search_fields:
            row = _object_of(model)
            name = getattr(row, "name", "") or (row.token_key if isinstance(row, AuthToken) else str(row))
            for term, what in ((name, "a whole name"), (name[:3], "a part"), ("nothing", "nothing")):
                yield Case(f"{called}: search {what}", _get(browser, url, q=term))
        row = _object_of(model)
        if row is None:
            continue
        yield Case(f"{called}: page", _get(browser, reverse(f"{at}_change", args=[row.pk])))
        if hasattr(model, "history"):
            yield Case(f"{called}: history", _get(browser, reverse(f"{at}_history", args=[row.pk])))
            yield Case(f"{called}: form for a new one", _get(browser, reverse(f"{at}_add")))
            yield Case(f"{called}: delete page", _get(browser, reverse(f"{at}_delete", args=[row.pk])))
    running = Execution.objects.filter(status=Status.RUNNING).first()
    task = Task.objects.order_by("pk").first()
    assert running
    assert task
    url = reverse("admin:executions_execution_change", args=[running.pk])
    yield Case("admin, execution: fragment", _get(browser, url, fragment=1))
    ended = _object_of(Execution)
    for view, page in (("again", ended), ("rerun", ended), ("cancel", running)):
        url = reverse(f"admin:executions_execution_{view}", args=[page.pk])
        yield Case(f"admin, execution: {view} page", _get(browser, url))
    url = reverse("admin:controlplane_task_change", args=[task.pk])
    yield Case("admin, task: run page", _get(browser, url.replace("change", "run")))
    yield Case("admin, task: dry run", _get(browser, url.replace("change", "dry-run")))
    for term, what in ((str(ended.pk)[:8], "a short id"), ("task7", "a name"), ("party10", "a part of names")):
        yield Case(f"admin: search of everything, {what}", _get(browser, reverse("admin:search"), s=term))
    rows_alone = {"headers": {"X-Rows-Alone": "1"}}
    where = reverse("admin:executions_execution_changelist")
    yield Case("admin, execution: rows alone", lambda: _ok(browser.get(where, **rows_alone)))
    choice = {"app_label": "controlplane", "model_name": "dataset", "field_name": "party", "term": "party1"}
    yield Case("admin: choice of a party", _get(browser, reverse("admin:autocomplete"), **choice))


# --- the API

PLACES: dict[str, list[dict[str, Any]]] = {
    "execution": [
        *({"status": status} for status in Status.values),
        {"status": ["QUEUED", "RUNNING"]},
        {"task": "task7"},
        {"task": "nosuch"},
        {"task_type": "psi"},
        {"task_type": "lr"},
        {"task_type": "nosuch"},
        {"created_after": MIDDLE},
        {"created_before": MIDDLE},
        {"created_before": "2020-01-01"},
        {"task": "task7", "status": "FAILURE"},
        {"task": "task7", "status": "RETRY"},
        {"task_type": "lr", "status": "FAILURE"},
        {"status": "FAILURE", "created_before": MIDDLE},
        {"party": "party1000"},
        {"party": "party1003"},
        {"submitted_by": "rare"},
        {"name": "task7"},
        {"has_warnings": "true"},
        {"label": "team:risk"},
        {"label": "env"},
        {"label": "env:rare"},
        {"label": ["team:risk", "env:rare"]},
        {"label": ["env:rare", "team:risk"]},
        {"label": "env:nosuch"},
        {"ordering": "created_at"},
    ],
    "pipelinerun": [
        *({"status": status} for status in PipelineStatus.values),
        {"pipeline": "pipeline7"},
        {"pipeline": "nosuch"},
        {"created_before": MIDDLE},
        {"pipeline": "pipeline7", "status": "FAILURE"},
    ],
    "dataset": [
        {"party__name": "party1003"},
        {"name": "table0"},
        {"produced_by": str(UUID(int=1))},
    ],
    "schedule": [{"enabled": "true"}, {"enabled": "false"}, {"task__name": "task7"}, {"pipeline__name": "pipeline7"}],
}


def _cursor(position: Any) -> str:
    return b64encode(urlencode({"p": position}).encode()).decode()


def _resources(service: APIClient) -> Iterator[Case]:
    kinds: list[Any] = [Party, Dataset, ClusterConfig, SPUConfig, Task, Pipeline, Schedule, Execution, PipelineRun]
    for model in kinds:
        name = model._meta.model_name
        url = reverse(f"{name}-list")
        timed = hasattr(model, "created_at") and model is not Task
        position = MIDDLE if timed else model.objects.count() // 2
        for query in [{}, *PLACES.get(name, [{"name": f"{name}7"}])]:
            told = urlencode(query, doseq=True)
            yield Case(f"API, {name}: list {told}", _get(service, url, **query))
            if timed:
                yield Case(f"API, {name}: list {told}, middle", _get(service, url, **query, cursor=_cursor(position)))
        yield Case(f"API, {name}: list, middle", _get(service, url, cursor=_cursor(position)))
        yield Case(f"API, {name}: list, largest page", _get(service, url, page_size=500))
        yield Case(f"API, {name}: one", _get(service, reverse(f"{name}-detail", args=[_object_of(model).pk])))
    execution, schedule = _object_of(Execution), _object_of(Schedule)
    url = reverse("execution-events", args=[execution.pk])
    yield Case("API, execution: events", _get(service, url))
    yield Case("API, execution: events, party", _get(service, url, party=execution.parties[0]))
    yield Case("API, schedule: ticks", _get(service, reverse("schedule-ticks", args=[schedule.pk])))
    preflight = Preflight.objects.order_by("pk").first()
    assert preflight
    yield Case("API, preflight: one", _get(service, reverse("preflight-detail", args=[preflight.pk])))


# --- what may not be deleted


def _refusals(browser: Client, service: APIClient) -> Iterator[Case]:
    kinds: list[Any] = [Party, Dataset, ClusterConfig, SPUConfig, Task, Pipeline]
    for model in kinds:
        name = model._meta.model_name
        row = _object_of(model)
        if model is Pipeline:
            row = Pipeline.objects.order_by("pk")[3]
            Schedule.objects.filter(pk=3).update(task=None, pipeline=row)
        yield Case(
            f"API, {name}: delete, refused", partial(_refused, service, reverse(f"{name}-detail", args=[row.pk]))
        )
        page = reverse(f"admin:controlplane_{name}_delete", args=[row.pk])
        yield Case(f"admin, {name}: delete, refused", partial(_post, browser, page, {"post": "yes"}))
        five = list(model.objects.order_by("pk").values_list("pk", flat=True)[:5])
        asked = {"action": "delete_selected", "_selected_action": five}
        page = reverse(f"admin:controlplane_{name}_changelist")
        yield Case(f"admin, {name}: delete five, asked", partial(_post, browser, page, asked))


# --- the coordinator


def leave_traces_of_workers(connection: Redis) -> None:
    """Store in Redis what workers of all parties leave there, and the jobs of what runs."""
    known = {"follows": own_key().key_id, "signs_with": voice("template").key_id}
    with connection.pipeline() as pipeline:
        for name in Party.objects.values_list("name", flat=True):
            key = f"rq:worker:{name}-1"
            pipeline.hset(key, mapping={"queues": name, "state": "busy", "process": "starting"} | known)
            pipeline.expire(key, 24 * 3600)
            pipeline.sadd(f"rq:workers:{name}", key)
        for run in PartyRun.objects.filter(released_at=None).select_related("party"):
            pipeline.hset(
                PartyJob.key_for(run.job_id), mapping={"status": "started", "worker_name": f"{run.party.name}-1"}
            )
        pipeline.execute()


def _send_events(connection: Redis) -> None:
    """Put events of what runs into the parties' streams, as many as a batch."""
    runs = list(PartyRun.objects.filter(released_at=None, status=RunStatus.RUNNING).select_related("party")[:20])
    with connection.pipeline() as pipeline:
        for number in range(EVENTS):
            run = runs[number % len(runs)]
            event = {
                "task_request_id": str(run.execution_id), "party": run.party.name, "attempt": run.attempt,
                "sequence": 100 + next(NUMBERS), "status": "RUNNING", "timestamp": "2026-11-01T00:00:00+00:00",
                "worker_container": "host-1", "task_type": "psi",
                "data": {"stage": "task_execution", "computation_progress": 0.5},
            }  # fmt: skip
            Stream(pipeline, run.party.name, voice("template")).append([json.dumps(event)])
        pipeline.execute()


def _steps(connection: Redis) -> Iterator[Case]:
    leave_traces_of_workers(connection)
    dispatcher, recovery, listener = Dispatcher(connection), Recovery(connection), Listener(connection)
    listener.step()
    for _ in range(10):
        dispatcher.step()  # what is next in line is checked ahead, once
    yield Case("dispatcher: a step, nothing fits", dispatcher.step, lambda: a_second_later(dispatcher))
    yield Case("recovery: a step", recovery.step)
    yield Case("listener: nothing came", listener.step)
    yield Case(f"listener: {EVENTS} events", listener.step, lambda: _send_events(connection))
    yield Case("pipelines: a step", pipelines.step)
    yield Case("schedules: a step", schedules.step)


# --- what changes the site


def _fields_of(response: Any) -> dict[str, Any]:
    """Return what a browser would post of a page's form."""
    form = response.context_data["adminform"].form
    found = {}
    for name in form.fields:
        value = form[name].value()
        if isinstance(value, dict | list):
            value = json.dumps(value)
        if value is not None and value is not False:
            found[name] = value
    return found


def _saves(browser: Client, service: APIClient) -> Iterator[Case]:
    kinds: list[Any] = [Party, Dataset, ClusterConfig, SPUConfig, Task, Pipeline, Schedule]
    for model in kinds:
        name, row = model._meta.model_name, _object_of(model)
        page = reverse(f"admin:controlplane_{name}_change", args=[row.pk])
        form = _fields_of(_get(browser, page)())

        def save(page: str = page, form: Any = form) -> Any:
            # Without the version that the page showed: it is saved over and over
            found = form | {"description": f"version {next(NUMBERS)}", SEEN: ""}
            return _saved(browser.post(page, found))

        def patch(url: str = reverse(f"{name}-detail", args=[row.pk])) -> Any:
            found = {"description": f"version {next(NUMBERS)}"}
            return _ok(service.patch(url, found, format="json"))

        yield Case(f"admin, {name}: save", save)
        yield Case(f"admin, {name}: saved, next page", _get(browser, page), save)
        yield Case(f"API, {name}: save", patch)
    site = reverse("admin:controlplane_site_change", args=[Site.current().pk or 1])

    def save_site() -> Any:
        found = {"environment": f"name {next(NUMBERS)}", "security": "production"}
        return _saved(browser.post(site, found))

    Site.objects.get_or_create(pk=1)
    yield Case("admin, environment: save", save_site)


def _saved(response: Any) -> Any:
    assert response.status_code == 302, dict(response.context_data["adminform"].form.errors)
    return response


def _submissions(browser: Client, service: APIClient) -> Iterator[Case]:
    task, pipeline = Task.objects.order_by("pk")[3], Pipeline.objects.order_by("pk")[3]
    documents = task.documents()
    host: dict[str, Any] = {"format": "json"}
    queued = Execution.objects.order_by("-created_at")

    def post(name: str, body: Any, *args: Any, expected: int = 201) -> Callable[[], Any]:
        return lambda: _ok(service.post(reverse(name, args=args), body, **host), expected)

    yield Case("API, execution: submit a task", post("execution-list", {"task": task.name}))
    yield Case("API, execution: submit documents", post("execution-list", documents))
    yield Case("API, execution: dry run", post("execution-dry-run", {"task": task.name}, expected=200))
    yield Case("API, execution: retry", post("execution-retry", {}, _object_of(Execution).pk))
    yield Case("API, preflight: request", post("preflight-list", {"task": task.name}))
    yield Case("API, pipeline run: submit", post("pipelinerun-list", {"pipeline": pipeline.name}))
    run = reverse("admin:controlplane_task_change", args=[task.pk]).replace("change", "run")
    yield Case("admin, task: run now", lambda: _ok(browser.post(run), 302))

    def cancel() -> Any:
        newest = queued.filter(status=Status.QUEUED).first()
        assert newest
        return _ok(service.post(reverse("execution-cancel", args=[newest.pk]), **host), 202)

    yield Case("API, execution: cancel", cancel)
