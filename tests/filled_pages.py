"""A site with something to show on every page, and the addresses of all pages: for tests of what pages say."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from redis import Redis

from controlplane.models import Account, AuditEntry, Notice, Pause
from executions.models import (
    Approval,
    ApprovalState,
    DeadLetter,
    Execution,
    ExecutionEvent,
    LogChunk,
    NodeRun,
    Notification,
    PartyCheck,
    PartyRun,
    PipelineRun,
    PostStatus,
    Preflight,
    StateChange,
    Tick,
    Webhook,
    WebhookDelivery,
)
from executions.states import PipelineStatus, RunStatus, Status
from tests.composed import admin_client, superuser
from tests.simulated import add_worker
from tests.walked import Circle, addresses

BINS = [[0.8, 10, 10, 0.9], [0.5, 10, 6, 0.65], [0.2, 20, 3, 0.35], [None, 10, 0, 0.1]]
RESIDUALS = {"columns": ["rows", "prediction", "label", "rmse"], "rows": [[10, 9.0, 8.0, 1.5], [10, 2.0, 2.5, 1.0]]}


def _report(name: str, values: Any = None, tables: Any = ()) -> dict[str, Any]:
    named = [{"name": name, "columns": columns, "rows": rows} for columns, rows in tables]
    return {"reports": {"report": [{"name": name, "values": values or {}, "tables": named}]}}


#: Results of each form, with the task types that have them.
RESULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("psi", {"original_count": {"alice": 460, "bob": 450}, "intersection_count": {"alice": 363, "bob": 363}}),
    ("psi", {"original_count": {"alice": 3, "bob": 4}, "intersection_count": {"alice": 9, "bob": 8}}),
    ("lr", {
        "rows": 50, "metrics": {"auc": 0.95, "ks": 0.7, "lift_10%": 2.6, "accuracy": 0.9, "bias": 0.1},
        "features": {"alice": 2}, "model": "m", "warnings": ["rows"] * 51,
        "bins": {"columns": ["from", "rows", "positives", "prediction"], "rows": BINS},
    }),
    ("lr", {"rows": 20, "metrics": {"r2": 0.5, "rmse": 1.2}, "bins": RESIDUALS}),
    ("table_statistics", _report("vif", {"feature/alice.age": 1.5, "feature/bob.bmi": 12})),
    ("table_statistics", _report("pvalue", {"alice.age": 0.01, "bob.bmi": 0.4})),
    ("table_statistics", _report("corr", tables=[(["a", "b"], [[1, 0.5], [0.5, 1]])])),
    ("table_statistics", _report("x", tables=[(["feature", "PSI"], [["age", 0.01], ["bmi", 0.2], ["c", 0.5]])])),
    ("table_statistics", _report("x", tables=[(["Label", "PSI", "Base Ratio", "Test Ratio"], [["a", 0.1, 0.5, 0.4]])])),
    ("table_statistics", _report("summary", {"total_samples": 5, "positive_samples": 2, "y_true_mean": 1})),
    ("woe_binning", {"columns": {"alice": ["age"]}, "information_values": {"alice.age": 0.4, "bob.bmi": 0.01}}),
    ("split", {"train_rows": 8, "test_rows": 2, "columns": {"alice": ["age"]}}),
    ("component", {"component": "io/read_data", "read": {"model": {
        "featureWeights": [{"featureName": "age", "party": "alice", "featureWeight": 0.5}], "bias": 1.0,
    }}}),
    ("no_longer_installed", {"a": {"b": [1, 2]}, "c": True}),
)  # fmt: skip
#: Why something waits, as a coordinator says it.
WAITS = (
    "alice has no live worker; start `manage.py rqworker alice` on alice's host",
    "alice, bob have no live worker; start `manage.py rqworker alice` on alice's host and `manage.py rqworker bob` on "
    "bob's host",
    "all workers of alice, bob are busy",
    "alice is paused: new disks",
    "alice is no longer registered",
    "alice, bob are kept for an execution that has waited longer",
    "all ports of alice (20000-20099) are leased",
    "its parties' hosts are checking it",
    "the worker of bob signs with another key than those on the party's page; enter there what `manage.py party keys` "
    "prints on bob's host",
)  # fmt: skip
#: Why something failed.
ERRORS = (
    "the worker of alice is gone, and its job with it",
    "the run passed its time limit of 60 s",
    "was not dispatched within 5 s: all workers of bob are busy",
    "a party stopped without saying why",
    "alice refused to approve it: not today",
    "bob said that its process has ended, and what came of it never arrived",
)


@dataclass
class Pages:
    """Addresses of pages that have something to show."""

    client: Client
    circle: Circle
    paths: list[str] = field(default_factory=list)
    #: What is posted in the end, with its fields.
    forms: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def get(self, path: str) -> Any:
        return self.client.get(path, HTTP_ACCEPT_LANGUAGE="zh-CN", follow=True)

    def post(self, path: str, **data: Any) -> Any:
        return self.client.post(path, data, HTTP_ACCEPT_LANGUAGE="zh-CN", follow=True)

    def add(self, *paths: str) -> None:
        self.paths += [path if path.startswith("/") else f"/admin/{path}" for path in paths]


def _executions(pages: Pages) -> None:
    task, now = pages.circle.rows["task"], timezone.now()
    begun = {"attempt": 2, "dispatched_at": now, "started_at": now - timedelta(minutes=3)}
    past: list[dict[str, Any]] = [
        begun | {"status": Status.SUCCESS, "ended_at": now, "task_type": kind, "result": result}
        for kind, result in RESULTS
    ]
    past += [
        begun | {"status": Status.FAILURE, "ended_at": now, "error": error, "error_type": "AlgorithmError",
                 "error_party": "alice", "error_stage": "sf_init"}
        for error in ERRORS
    ]  # fmt: skip
    past += [{"waiting_for": why, "queued_at": now - timedelta(minutes=15 * at)} for at, why in enumerate(WAITS)]
    past += [
        {"status": Status.AWAITING_APPROVAL,
         "waiting_for": "bob has to approve it: `manage.py party approve a1b2` on its host"},
        {"status": Status.CANCELLED, "ended_at": now}, {"status": Status.RETRY, "attempt": 1, "due_at": now},
        begun | {"status": Status.RUNNING, "progress": 0.4}, begun | {"status": Status.CANCELLING},
        {"queued_at": now - timedelta(hours=1)},
    ]  # fmt: skip
    for fields in past:
        labels, deadline = {"team": "risk", "env": ""}, now + timedelta(hours=5)
        execution = Execution.objects.submit(task.documents(), task=task, labels=labels, deadline=deadline)
        Execution.objects.filter(pk=execution.pk).update(**fields)
        pages.add(f"executions/execution/{execution.pk}/change/")
        if fields.get("attempt"):
            _details(pages, execution, fields, now)
    pages.add(f"executions/execution/compare/?id={execution.pk}")
    done = [str(pk) for pk in Execution.objects.filter(status=Status.SUCCESS).values_list("pk", flat=True)[:4]]
    pages.add(f"executions/execution/compare/?id={'&id='.join(done)}", "executions/execution/compare/?id=nothing")
    for page in ("cancel", "again"):
        pages.add(f"executions/execution/{execution.pk}/{page}/")


def _details(pages: Pages, execution: Execution, fields: dict[str, Any], now: Any) -> None:
    """Runs, changes, events, checks and a log of an execution."""
    whys = [
        "submitted",
        "attempt 1",
        "NetworkError at alice: the link broke; retry 1 of 3",
        "retry is due",
        "attempt 2",
    ]
    states = [Status.QUEUED, Status.DISPATCHED, Status.RETRY, Status.QUEUED, Status.DISPATCHED]
    StateChange.objects.filter(execution=execution).delete()
    for at, (state, why) in enumerate(zip(states, whys, strict=True)):
        before, moment = states[at - 1] if at else "", now - timedelta(minutes=9 - at)
        StateChange.objects.create(execution=execution, from_status=before, to_status=state, why=why, at=moment)
    ends = {Status.SUCCESS: RunStatus.SUCCESS, Status.FAILURE: RunStatus.FAILURE}
    end, error = ends.get(fields["status"], RunStatus.RUNNING), fields.get("error", "")
    for attempt in (1, 2):
        for name in pages.circle.names:
            status = end if attempt == 2 else RunStatus.LOST
            PartyRun.objects.create(
                execution=execution, party=pages.circle.rows[name], attempt=attempt, status=status, error=error,
                job_id=f"{name}-{execution.pk}-{attempt}", error_type="AlgorithmError" if error else "",
                caused_by_peer=name == "bob", dispatched_at=now - timedelta(minutes=8 - 3 * attempt), started_at=now,
                worker=f"{name}@host-1", devices=["spu"], ports=[20000],
            )  # fmt: skip
            for number, stage in enumerate(("task_started", "sf_init", "spu_init", "task_execution", "cleanup")):
                ExecutionEvent.objects.create(
                    execution=execution, party=name, attempt=attempt, sequence=number + 1, stage=stage,
                    status="FAILURE" if end == RunStatus.FAILURE else "RUNNING",
                    timestamp=now + timedelta(seconds=number), data={"stage": stage, "error": "it broke down"},
                )  # fmt: skip
    LogChunk.objects.create(
        execution=execution, party="alice", attempt=2, sequence=1, lines=[[now.timestamp(), 30, "", "it_began"]],
        count=1, size=10, dropped=7,
    )  # fmt: skip
    _checks(pages, execution)


def _checks(pages: Pages, execution: Execution) -> None:
    checks = Preflight.objects.create(execution=execution, requested_by=superuser(), is_ahead=True)
    facts = {"dataset": {"rows": 5, "columns": {"a": "int"}}, "free_memory": 2**33, "free_disk": 2**34, "cpus": 4}
    for at, name in enumerate(pages.circle.names):
        results = [{"check": "documents", "error": "", "error_type": ""}]
        if at:
            results.append({"check": "ports", "error": "all ports of bob are leased", "error_type": "ResourceError"})
        PartyCheck.objects.create(
            preflight=checks, party=pages.circle.rows[name], answered_at=timezone.now(), results=results,
            facts=facts | {"versions": {"spu": f"{at}"}},
        )  # fmt: skip


def _pipelines(pages: Pages) -> None:
    rows = pages.circle.rows
    failed = Execution.objects.filter(status=Status.FAILURE)[0]
    for status in (*PipelineStatus, PipelineStatus.RUNNING):
        run = PipelineRun.objects.submit(rows["pipeline"], by=superuser())
        names = {"first": {}, "second": {"first": "named"}, "third": {"second": "named"}}
        NodeRun.objects.filter(run=run).delete()
        for at, (name, before) in enumerate(names.items()):
            error = ERRORS[0] if status == PipelineStatus.FAILURE and not at else ""
            NodeRun.objects.create(run=run, name=name, position=at, task_name="t", waits_for=before, error=error)
        ended = timezone.now() if status not in (PipelineStatus.RUNNING, PipelineStatus.CANCELLING) else None
        PipelineRun.objects.filter(pk=run.pk).update(status=status, ended_at=ended)
        run.changes.create(to_status=status, why="failed: first", by=superuser())
        pages.add(f"executions/pipelinerun/{run.pk}/change/")
        for page in ("cancel", "retry"):
            pages.add(f"executions/pipelinerun/{run.pk}/{page}/")
    NodeRun.objects.filter(run=run, name="first").update(execution=failed)
    schedule = rows["schedule"]
    skips = ("not valid now: it is not", "the control plane could not start it: x", "")
    for at, why in enumerate(skips):
        due = timezone.now() - timedelta(hours=at)
        Tick.objects.create(schedule=schedule, due_at=due, skipped=why, execution=None if why else failed)
    type(schedule).objects.filter(pk=schedule.pk).update(owner=User.objects.create_user("gone", is_active=False))
    pages.add(f"controlplane/schedule/{schedule.pk}/change/", f"controlplane/schedule/{schedule.pk}/confirm/")


def _others(pages: Pages) -> None:
    rows, root = pages.circle.rows, superuser()
    Pause.objects.create(party=rows["bob"], why="new disks")
    for page in ("change", "pause", "resume", "history", "delete"):
        pages.add(f"controlplane/party/{rows['alice'].pk}/{page}/", f"controlplane/party/{rows['bob'].pk}/{page}/")
    for reason in ("it is no JSON", "it is longer than 500 bytes", "it names another party than its stream"):
        letter = DeadLetter.objects.create(party="alice", kind="event", reason=reason, content="x", size=1)
        pages.add(f"executions/deadletter/{letter.pk}/change/")
    for at, state in enumerate(ApprovalState):
        execution = Execution.objects.all()[at]
        made = Approval.objects.create(execution=execution, party=rows["bob"], digest="b2" * 32, state=state)
        pages.add(f"executions/approval/{made.pk}/change/")
    told = (
        "task 1a2b failed at alice: AlgorithmError", "task 1a2b failed", "task 1a2b awaits approval",
        "task 1a2b succeeded", "task 1a2b was cancelled", "alice has no live worker",
        "Dataset alice.customers cannot be read on its host", "Dataset alice.customers is not as registered",
        "No coordinator was running for 5 min; one is again",
    )  # fmt: skip
    for text in told:
        Notification.objects.create(user=root, kind=Notice.FAILED, text=text)
    account = Account.of(root)
    account.subscriptions = {str(Notice.FAILED): ["console"]}
    account.save()
    for action in ("submit", "cancelled", "ask for checks", "pause", "refused", "sign in"):
        entry = AuditEntry.objects.create(actor="ann", action=action, subject="execution x", details="cancelled by ann")
    pages.add(f"controlplane/auditentry/{entry.pk}/change/")
    _webhooks(pages, root)
    task = rows["task"]
    checks = Preflight.objects.create(name=task.name)
    pages.add(
        f"controlplane/task/{task.pk}/run/", f"controlplane/task/{task.pk}/dry-run/",
        f"controlplane/task/{task.pk}/dry-run/?checks={checks.pk}", "?period=7d", "?period=30d",
        "executions/execution/?q=nothing", "/admin/executions/execution/?status__exact=SUCCESS", "search/?s=al",
        "executions/execution/?label=team:risk", "executions/execution/?label=:x",
        "nothing/",
    )  # fmt: skip


def _webhooks(pages: Pages, root: User) -> None:
    """Webhooks in each state, with deliveries of each status."""
    now = timezone.now()
    gone = {"enabled": False, "disabled_because": "the server answered with status 410: it is gone"}
    for signature, fields in (("hmac", {"limited_to": ["alice"], "former_until": now}), ("ed25519", gone)):
        hook = Webhook.objects.create(
            owner=root, name=signature, url="https://hooks.example/abc", secret="x", signature=signature,
            events=["execution.success", "execution.failure"], party="alice", labels={"team": "risk"}, **fields,
        )  # fmt: skip
        here = f"executions/webhook/{hook.pk}"
        pages.add(*(f"{here}/{page}/" for page in ("change", "delete", "history", "deliveries", "test", "new-key")))
        errors = ("the server answered with status 500", "its key cannot be read; make a new one")
        tries = [{"at": now.isoformat(), "status": None, "error": error, "seconds": 1} for error in errors]
        for status in PostStatus:
            made = WebhookDelivery.objects.create(
                webhook=hook, execution=pages.circle.rows["execution"].pk, event_type="execution.success", body="{}",
                status=status, ended_at=now, tries=tries, number_of_tries=30,
            )  # fmt: skip
            pages.add(f"{here}/deliveries/{made.pk}/", f"{here}/deliveries/{made.pk}/again/")
            pages.forms.append((f"/admin/{here}/deliveries/{made.pk}/again/", {}))
        pages.add(f"{here}/deliveries/?status__exact=SENT")
        wrong = {"name": "ed25519", "url": "https://10.0.0.1/", "labels": "a", "seen_version": 0}
        pages.forms += [
            (f"/admin/{here}/change/", wrong), (f"/admin/{here}/change/", wrong | {"labels": "a:1\na:2"}),
            (f"/admin/{here}/test/", {}), (f"/admin/{here}/new-key/", {}), (f"/admin/{here}/new-key/", {"version": 1}),
        ]  # fmt: skip
    empty = Webhook.objects.create(owner=root, name="empty", url="https://hooks.example/", secret="x")
    pages.add(f"executions/webhook/{empty.pk}/deliveries/")
    new = {"name": "new", "url": "https://hooks.example/", "signature": "hmac"}
    pages.forms += [
        ("/admin/executions/webhook/add/", new), ("/admin/executions/webhook/add/", new | {"signature": "x"}),
        (f"/admin/executions/webhook/{empty.pk}/delete/", {"post": "yes"}),
    ]  # fmt: skip


def _addresses(pages: Pages) -> None:
    """Every address of the admin, as administrators may ask for it."""
    values: dict[str, Any] = defaultdict(lambda: "x", app_label="controlplane", content_type_id=1, number=0, url="x/")
    for address in addresses():
        if address.is_for_services or "logout" in address.pattern:
            continue
        row = pages.circle.rows.get(address.model)
        pk = row.pk if row is not None else User.objects.get(username="root").pk
        history = getattr(row, "history", None)
        version = history.first().pk if history is not None else 1
        pages.add(address.path(values | {"object_id": pk, "pk": pk, "id": pk, "version_id": version}))


def _forms(pages: Pages) -> None:
    """What says something once it is posted."""
    ended, running, queued = (
        Execution.objects.filter(status=status).order_by("-created_at")[0].pk
        for status in (Status.FAILURE, Status.RUNNING, Status.QUEUED)
    )
    runs = PipelineRun.objects.order_by("-created_at")
    failed, done = (runs.filter(status=status)[0].pk for status in (PipelineStatus.FAILURE, PipelineStatus.SUCCESS))
    executions, all_runs = "/admin/executions/execution/", "/admin/executions/pipelinerun/"
    schedule, task = pages.circle.rows["schedule"].pk, pages.circle.rows["task"].pk
    parties = [pages.circle.rows[name].pk for name in pages.circle.names]
    several = {"_selected_action": [str(ended), str(queued)]}
    yes = {"confirmed": "yes"}
    pages.forms += [
        *((f"{executions}{pk}/cancel/", {}) for pk in (queued, ended, running)),
        (f"{all_runs}{done}/retry/", {}), (f"{all_runs}{done}/cancel/", {}),
        (f"{all_runs}{failed}/retry/", {"node": "first"}),
        (f"/admin/controlplane/party/{parties[0]}/pause/", {"why": "x"}),
        (f"/admin/controlplane/party/{parties[1]}/resume/", {}),
        (f"/admin/controlplane/schedule/{schedule}/confirm/", {}), (f"/admin/controlplane/task/{task}/dry-run/", {}),
        ("/admin/notifications/settings/", {"failed-webhook": "on"}),
        ("/admin/notifications/settings/", {"webhook_url": "x"}),
        ("/admin/notifications/settings/", {"webhook_url": "https://example.org/"}),
    ]  # fmt: skip
    for action in ("cancel_executions", "run_executions_again", "compare_executions"):
        pages.forms += [(executions, {"action": action} | several), (executions, {"action": action} | several | yes)]
    several = {"_selected_action": [str(failed), str(done)]}
    for action in ("cancel_runs", "retry_runs"):
        pages.forms += [(all_runs, {"action": action} | several), (all_runs, {"action": action} | several | yes)]
    several = {"_selected_action": [str(schedule)]}
    for action in ("enable_schedules", "disable_schedules"):
        path = "/admin/controlplane/schedule/"
        pages.forms += [(path, {"action": action} | several), (path, {"action": action} | several | yes)]


def pages_of_a_site(connection: Redis) -> Pages:
    """Fill the site, and return all its pages, as an administrator asks for them."""
    pages = Pages(admin_client(superuser()), Circle.make("alice", "bob", 20000))
    add_worker(connection, "alice")
    for fill in (_executions, _pipelines, _others, _addresses, _forms):
        fill(pages)
    return pages
