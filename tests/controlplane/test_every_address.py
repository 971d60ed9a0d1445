"""Every address, with everybody, by every method: the status is as tests/access.txt says, and never an error of ours.

Each line of that file is an address and a method; then, for each caller in the order of its head, the status for what
involves the caller's parties. What involves other parties is not in the file: it is 404, or refused as one's own is.
A new address fails here until it has its lines. With WRITE_ACCESS=1 in the environment these tests write the
file anew, run one by one, and with WRITE_ACCESS=new only what is missing: look at each line that differs.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.template.response import SimpleTemplateResponse
from redis import Redis

from controlplane.environment import ROOT
from controlplane.models import Party, TokenTerms
from executions import health
from executions.coordinator.webhooks import prepare_test
from executions.models import Webhook
from tests.composed import make_user
from tests.walked import CALLERS, Address, Caller, Circle, addresses

TABLE = ROOT / "tests" / "access.txt"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: Callers of the admin: tokens are for the API.
OF_THE_ADMIN = [name for name in CALLERS if "token" not in name]
#: An admin page tells POST from all other methods, and only from it: it is enough to ask for who may do nothing.
BY_ALL_METHODS = ("no role",)
#: Whose pages are made whole; of the others their status is enough.
WHOLE_PAGES = ("operator", "administrator")
#: Who sees all parties.
UNLIMITED = ("administrator",)
#: What everybody may look at without signing in.
PUBLIC = {"login", "sign_in", "jsi18n", "api:schema", "api:docs", "healthz", "readyz"}
WRITING = ("POST", "PUT", "PATCH", "DELETE")


def read_table() -> dict[tuple[str, str], dict[str, int]]:
    lines = TABLE.read_text().splitlines()
    callers = [name.strip() for name in lines[0].removeprefix("#").split("|")][1:]
    found = {}
    for line in lines[1:]:
        key, *statuses = (part.strip() for part in line.split("|"))
        name, _, method = key.rpartition(" ")
        found[name, method] = {c: int(s) for c, s in zip(callers, statuses, strict=True) if s != "-"}
    return found


def write_table(found: dict[tuple[str, str], dict[str, int]]) -> None:
    head = "# address and method".ljust(58) + "".join(f"| {name} " for name in CALLERS)
    lines = [head.rstrip()]
    for (name, method), statuses in found.items():
        shown = "".join("| " + str(statuses.get(c, "-")).ljust(len(c) + 1) for c in CALLERS)
        lines.append((f"{name} {method}".ljust(58) + shown).rstrip())
    TABLE.write_text("\n".join(lines) + "\n")


def write_column(caller: str, own: dict[Any, int]) -> None:
    found = read_table()
    for key, status in own.items():
        found.setdefault(key, {})[caller] = status
    write_table(found)


def values_for(address: Address, circle: Circle, subject: Any) -> dict[str, Any]:
    """What to put into an address."""
    rows: dict[str, Any] = {**circle.rows, "user": subject, "group": subject.groups.first()}
    rows |= {"authtoken": subject.auth_token_set.first(), "webhook": subject.webhooks.first()}
    row = rows.get(address.model)
    pk = row.pk if row is not None else 1
    history = getattr(row, "history", None)
    version = history.first().pk if history is not None else 1
    number = row.deliveries.get().pk if address.model == "webhook" else 0
    values = defaultdict(lambda: "x", object_id=pk, pk=pk, id=pk, number=number, version_id=version, url="nothing/")
    values["delivery"] = number
    party = ContentType.objects.get_for_model(Party).pk
    return values | {"app_label": "controlplane", "content_type_id": party}


def ask(client: Any, method: str, path: str, caller: str) -> int:
    """The status, with everything undone that the request did."""
    cookies = client.cookies.copy()
    # what a page says of a form that was not filled in, tests of the forms look at
    is_whole = method == "GET" and caller in WHOLE_PAGES
    rendered = nullcontext() if is_whole else patch.object(SimpleTemplateResponse, "rendered_content", "")
    with transaction.atomic(), rendered:
        status = int(client.generic(method, path, "{}", content_type="application/json").status_code)
        transaction.set_rollback(True)
    client.cookies = cookies  # it may have signed out
    return status


def is_asked(address: Address, method: str, caller: str) -> bool:
    if address.is_for_services:
        return True
    return caller in OF_THE_ADMIN and (method in ("GET", "POST") or caller in BY_ALL_METHODS)


def walk(caller: str, mine: Circle, other: Circle, subject: Any) -> tuple[dict[Any, int], dict[Any, int]]:
    """The statuses of one caller, by address and method: for what is the caller's own, and for what is others'."""
    who: Caller = CALLERS[caller](mine.names)
    admin, api = who.admin(), who.api()
    own: dict[Any, int] = {}
    others: dict[Any, int] = {}
    is_new = os.environ.get("WRITE_ACCESS") == "new"
    known = {name for (name, _), statuses in read_table().items() if is_new and caller in statuses}
    for address in addresses():
        if address.name in known:
            continue
        client = api if address.is_for_services else admin
        path, path_of_others = (address.path(values_for(address, circle, subject)) for circle in (mine, other))
        for method in METHODS:
            if not is_asked(address, method, caller):
                continue
            key = address.name, method
            # a name may have several patterns
            own[key] = max(own.get(key, 0), ask(client, method, path, caller))
            is_asked_twice = caller not in UNLIMITED and (client is api or method in ("GET", "POST"))
            if is_asked_twice and address.model in other.rows and address.model not in SHARED:
                others[key] = ask(client, method, path_of_others, caller)
    return own, others


#: A device's settings are for whoever takes part.
SHARED = ("spuconfig", "deviceconfig")


def make_site() -> tuple[Circle, Circle, Any]:
    mine, other = Circle.make("alice", "bob", 20000), Circle.make("carol", "dave", 22000)
    subject = make_user("subject", parties=())
    subject.groups.create(name="some group")
    TokenTerms.make_token(subject, "subject's")
    prepare_test(Webhook.objects.create(owner=subject, name="subject's", url="https://hooks.example/", secret="x"))
    return mine, other, subject


@pytest.mark.parametrize("caller", CALLERS)
def test_everybody_gets_what_the_table_says(
    db: None, connection: Redis, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No coordinator runs here, of which /readyz would rightly say 503
    monkeypatch.setattr(health.readiness, "look", lambda: {"all": health.OK})
    own, others = walk(caller, *make_site())
    if "WRITE_ACCESS" in os.environ:
        write_column(caller, own)
        return
    expected = read_table()
    said = {key: statuses[caller] for key, statuses in expected.items() if caller in statuses}
    assert sorted(own.keys() - said.keys()) == [], f"write their lines in {TABLE.name}"
    assert {key: (own[key], said[key]) for key in own if own[key] != said[key]} == {}, "(is, should be)"
    assert {key: status for key, status in (own | others).items() if status >= 500} == {}
    # what the table cannot be changed to say
    if caller == "anonymous":
        assert {key for key, status in own.items() if status < 300} <= {(n, m) for n in PUBLIC for m in METHODS}
    if caller in ("no role", "viewer", "token to read"):
        written = {key for key, status in own.items() if key[1] in WRITING and status in (201, 202, 204)}
        assert written <= {("api:logout", "POST")}
    if caller not in UNLIMITED:
        seen = {key: status for key, status in others.items() if status < 400 and not _is_harmless(key, status)}
        assert seen == {}, "it tells something of other parties"
        told = {key: (own[key], status) for key, status in others.items() if status not in (404, own[key])}
        assert told == {}, "other parties' things are told from what there is not"


def _is_harmless(key: tuple[str, str], status: int) -> bool:
    """A redirect to the page of signing in, or to an address that answers for itself."""
    return status in (301, 302, 308)


def test_the_table_has_no_lines_too_many() -> None:
    names = {address.name for address in addresses()}
    assert sorted({name for name, _ in read_table()} - names) == []
