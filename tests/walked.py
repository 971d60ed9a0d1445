"""A site with two circles that share nothing, and one caller of each kind: for tests of who gets what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import get_resolver
from rest_framework.test import APIClient

from controlplane.models import (
    ClusterConfig,
    Dataset,
    DeviceConfig,
    HEUConfig,
    Party,
    Pipeline,
    Schedule,
    SPUConfig,
    Task,
    TokenTerms,
)
from controlplane.roles import ADMINISTRATOR, OPERATOR, STEWARD, VIEWER
from executions.models import (
    Approval,
    DeadLetter,
    Execution,
    PartyCheck,
    PipelineRun,
    Preflight,
)
from tests.composed import PSI, make_user


@dataclass
class Circle:
    """Two parties that compute together, and a row of everything that involves them."""

    names: tuple[str, str]
    rows: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, first: str, second: str, port: int) -> Circle:
        circle = cls((first, second))
        rows: dict[str, Any] = {}
        for index, name in enumerate(circle.names):
            start = port + 100 * index
            party = Party.objects.create(name=name, address="127.0.0.1", port_first=start, port_last=start + 99)
            rows[name] = party
            columns = {"uid": "str", "age": "int"}
            rows[f"{name}_table"] = Dataset.objects.create(party=party, name=f"table_of_{name}", columns=columns)
        rows["party"], rows["dataset"] = rows[first], rows[f"{first}_table"]
        label = f"{first}-{second}"
        rows["clusterconfig"] = ClusterConfig.objects.create(
            name=f"{label} cluster", document={"parties": [first, second]}
        )
        rows["spuconfig"] = SPUConfig.objects.create(name=f"spu at {port}")
        rows["heuconfig"] = HEUConfig.objects.create(name=f"{label} heu", document={"sk_keeper": first})
        rows["deviceconfig"] = DeviceConfig.objects.create(name=f"hsm at {port}", layer="hsm_config", document={})
        both = {first: f"table_of_{first}", second: f"table_of_{second}"}
        document = PSI | {
            "data_sources": both,
            "outputs": {first: f"common_{first}", second: f"common_{first}"},
            "algorithm_params": {
                "psi_params": {"input_keys": {name: ["uid"] for name in both}, "receivers": [first, second]}
            },
        }
        task = Task(name=f"{label} task", cluster=rows["clusterconfig"], spu=rows["spuconfig"], document=document)
        task.full_clean()
        task.save()
        rows["task"] = task
        rows["pipeline"] = Pipeline.objects.create(name=f"{label} pipeline", nodes={"only": {"task": task.name}})
        rows["schedule"] = Schedule.objects.create(name=f"{label} schedule", cron="0 3 * * *", task=task)
        rows["execution"] = Execution.objects.submit(task.documents(), task=task)
        rows["pipelinerun"] = PipelineRun.objects.submit(rows["pipeline"])
        rows["preflight"] = Preflight.objects.create(name=task.name)
        PartyCheck.objects.bulk_create(
            PartyCheck(preflight=rows["preflight"], party=rows[name]) for name in circle.names
        )
        rows["approval"] = Approval.objects.create(execution=rows["execution"], party=rows[first], digest="a1" * 32)
        rows["deadletter"] = DeadLetter.objects.create(
            party=first, kind="event", reason=f"of {first}", content="", size=0
        )
        circle.rows = rows
        return circle


@dataclass(frozen=True)
class Address:
    """A pattern of addresses, and how one of them is made."""

    #: The name of the address, or its pattern where it has none.
    name: str
    pattern: str
    #: The model whose row it shows; empty if it shows none of a circle.
    model: str = ""

    @property
    def is_for_services(self) -> bool:
        """Whether tokens are for it, too."""
        return self.pattern.startswith("api") or self.pattern == "metrics"

    def path(self, values: dict[str, Any]) -> str:
        """Return the address with these values."""
        text = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(values[found[1]]), self.pattern)
        unnamed = iter([values["object_id"], values["version_id"]])
        text = re.sub(r"\(\[\^/\]\+\)", lambda _: str(next(unnamed)), text)
        return "/" + re.sub(r"[\^$?]", "", text)


def addresses() -> Iterator[Address]:
    """Yield every pattern of addresses there is, but for those with a suffix for a format."""
    for pattern, name in _walk(get_resolver().url_patterns, ""):
        if "format" in pattern:
            continue
        pattern = re.sub(r"\(\?P<(\w+)>(?:\[[^]]*\][+*]?|[^()]*)\)\??", r"<\1>", pattern)
        in_admin = re.match(r"admin/(\w+)/(\w+)/", pattern)
        model = in_admin[2] if in_admin else re.sub(r"-[a-z-]+$", "", name or "") if pattern.startswith("api") else ""
        name = f"api:{name}" if name and pattern.startswith("api") else name
        yield Address(name or pattern, pattern, model if "<" in pattern or "([^" in pattern else "")


def _walk(patterns: Any, before: str) -> Iterator[tuple[str, str | None]]:
    for entry in patterns:
        text = before + str(entry.pattern)
        if hasattr(entry, "url_patterns"):
            yield from _walk(entry.url_patterns, text)
        else:
            yield text, entry.name


@dataclass
class Caller:
    """Somebody who asks: through the admin, and through the API with a session or a token."""

    user: User | None = None
    token: dict[str, Any] | None = None

    def admin(self) -> Client:
        client = Client(raise_request_exception=False)
        if self.user and not self.token:
            client.force_login(self.user)
        return client

    def api(self) -> APIClient:
        client = APIClient(raise_request_exception=False)
        if self.user and self.token is not None:
            _, text = TokenTerms.make_token(self.user, "a service", **self.token)
            client.credentials(HTTP_AUTHORIZATION=f"Token {text}")
        elif self.user:
            client.force_login(self.user)
        return client


def in_role(name: str, role: str | None, parties: Any = ()) -> User:
    """A staff user in a role that ships, for these parties."""
    user = make_user(name, parties=parties)
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


#: Caller to how it is made, of the names of the parties of the first circle.
CALLERS: dict[str, Callable[[tuple[str, str]], Caller]] = {
    "anonymous": lambda both: Caller(),
    "no role": lambda both: Caller(in_role("nobody", None, both)),
    "viewer": lambda both: Caller(in_role("viewer", VIEWER, both)),
    "operator": lambda both: Caller(in_role("operator", OPERATOR, both)),
    "operator of one": lambda both: Caller(in_role("operator-of-one", OPERATOR, both[:1])),
    "steward": lambda both: Caller(in_role("steward", STEWARD, both[:1])),
    "administrator": lambda both: Caller(in_role("administrator", ADMINISTRATOR)),
    "token to read": lambda both: Caller(in_role("reader", OPERATOR, both), {"scopes": ["read"]}),
    "token to submit": lambda both: Caller(in_role("submitter", OPERATOR, both), {"scopes": ["submit"]}),
    "token to manage": lambda both: Caller(in_role("manager", OPERATOR, both), {"scopes": ["manage"]}),
    "token of one party": lambda both: Caller(in_role("limited", OPERATOR, both), {"parties": frozenset(both[:1])}),
}
