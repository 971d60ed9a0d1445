"""Parties, datasets, configurations and a valid PSI task, as an operator would have registered them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from rest_framework.test import APIClient

from controlplane.environment import ROOT
from controlplane.models import ClusterConfig, Dataset, Party, PartyGrant, Pipeline, SPUConfig, Task, TokenTerms
from executions.models import Execution
from tests.keys import voice

PSI: dict[str, Any] = {
    "task_type": "psi",
    "data_sources": {"alice": "customers", "bob": "clients"},
    "outputs": {"alice": "common", "bob": "common"},
    "algorithm_params": {
        "psi_params": {"input_keys": {"alice": ["uid"], "bob": ["user_id"]}, "receivers": ["alice", "bob"]}
    },
}


def make_parties() -> dict[str, Party]:
    """alice and bob, each with a dataset of an id and two numbers."""
    parties = {}
    for index, (name, dataset, key) in enumerate((("alice", "customers", "uid"), ("bob", "clients", "user_id"))):
        first = 20000 + 100 * index
        party = Party.objects.create(
            name=name,
            address="127.0.0.1",
            port_first=first,
            port_last=first + 99,
            signing_keys=voice(name).public_key,
        )
        columns = {key: "str", "age": "int", "income": "float"}
        Dataset.objects.create(party=party, name=dataset, columns=columns, key_columns=[key])
        parties[name] = party
    return parties


def make_task(name: str = "customers-psi", **fields: Any) -> Task:
    """A PSI task that is ready to run, with all that it needs."""
    if not Party.objects.filter(name="alice").exists():
        make_parties()
    both = {"parties": ["alice", "bob"]}
    cluster, _ = ClusterConfig.objects.get_or_create(name="alice-bob", defaults={"document": both})
    spu, _ = SPUConfig.objects.get_or_create(name="semi2k", defaults={"document": {}})
    task = Task(name=name, cluster=cluster, spu=spu, document=PSI, **fields)
    task.full_clean()
    task.save()
    return task


def copy_of_task(task: Task, name: str, **document: Any) -> Task:
    """Another task of the same cluster."""
    new = Task(name=name, cluster=task.cluster, spu=task.spu, document=PSI | document)
    new.full_clean()
    new.save()
    return new


def make_chain() -> dict[str, Task]:
    """An intersection, another one, and two regressions on what the first keeps: for pipelines."""
    psi = make_task("intersect")
    features = {"features": {"alice": ["age"]}, "label": {"party": "bob", "column": "income"}}
    lr = {
        "task_type": "lr",
        "data_sources": {"alice": "common", "bob": "common"},
        "algorithm_params": {"ml_params": features | {"model_type": "linear_regression"}},
    }
    return {
        "intersect": psi,
        "again": copy_of_task(psi, "again", outputs={"alice": "common_2", "bob": "common_2"}),
        "train": copy_of_task(psi, "train", **lr, outputs={"bob": "predicted"}),
        "more": copy_of_task(psi, "more", **lr, outputs={"bob": "predicted_too"}),
    }


def make_pipeline(name: str = "patients", **nodes: Any) -> Pipeline:
    """By node: the task's name, or the whole node."""
    named = {node: {"task": said} if isinstance(said, str) else said for node, said in nodes.items()}
    pipeline = Pipeline(name=name, nodes=named)
    pipeline.full_clean()
    pipeline.save()
    return pipeline


def documents() -> dict[str, Any]:
    """The four documents of the same PSI; the parties must be registered."""
    return {
        "sf_init_config": {"parties": ["alice", "bob"]},
        "spu_config": {"runtime_config": {"protocol": "SEMI2K"}},
        "heu_config": {"enable_heu": False},
        "task_config": PSI,
    }


def make_execution(task: Task | None = None, **fields: Any) -> Execution:
    """A submitted execution, with ``fields`` as if more had happened to it."""
    task = task or Task.objects.first() or make_task()
    execution = Execution.objects.submit(task.documents(), task=task)
    Execution.objects.filter(pk=execution.pk).update(**fields)
    execution.refresh_from_db()
    return execution


def make_user(name: str, *permissions: str, parties: Collection[str] | None = None) -> User:
    """A staff user who has these permissions and no others, for all parties or for those that are named."""
    user = User.objects.create_user(name, is_staff=True)  # no password: hashing one is made to take long
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    grant(user, parties)
    return user


def grant(user: User, parties: Collection[str] | None = None) -> None:
    """Let a user work for these parties, or for all."""
    if parties is None:
        PartyGrant.objects.create(user=user, all_parties=True)
    for party in parties or ():
        PartyGrant.objects.create(user=user, party=Party.objects.get(name=party))


def superuser() -> User:
    """root, who may do everything; the same user at each call."""
    return User.objects.filter(username="root").first() or User.objects.create_superuser("root")


def admin_client(user: User) -> Client:
    """The admin as this user has it; an error in it is a response."""
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def api_client(user: User) -> APIClient:
    """The REST API as this user has it; an error in it is a response."""
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(user)
    return client


def admin_as(name: str, *permissions: str) -> Client:
    """The admin as a new user with these permissions has it."""
    return admin_client(make_user(name, *permissions))


def api_as(name: str, *permissions: str) -> APIClient:
    """The REST API as a new user with these permissions has it."""
    return api_client(make_user(name, *permissions))


def token_client(user: User, **terms: Any) -> APIClient:
    """The REST API as a service has it that sends a token of this user, with terms as ``TokenTerms`` takes them."""
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Token {TokenTerms.make_token(user, 'a service', **terms)[1]}")
    return client


def page_of(execution: Execution) -> str:
    """The address of an execution's page."""
    return f"/admin/executions/execution/{execution.pk}/change/"


def messages_of(response: Any) -> list[str]:
    """What a page of the admin says at its top."""
    return [str(message) for message in response.context["messages"]]


def errors_of(response: Any) -> dict[str | None, str]:
    """The API's validation errors: path to text."""
    body = response.json()
    assert body["type"].endswith(":invalid"), body
    return {entry["path"]: entry["detail"] for entry in body["errors"]}


#: Much the same as make_task() makes, as a profile.
PROFILE = """
environment: test
security: trial
parties:
  alice: {address: 127.0.0.1, port_first: 20000, port_last: 20099}
  bob: {address: 127.0.0.1, port_first: 20100, port_last: 20199}
datasets:
  alice:
    customers: {columns: {uid: str, age: int}, key_columns: [uid]}
  bob:
    clients: {columns: {user_id: str}, key_columns: [user_id]}
clusters:
  both: {sf_init_config: {parties: [alice, bob]}}
spus:
  semi2k: {}
tasks:
  intersect:
    cluster: both
    spu: semi2k
    task_config:
      task_type: psi
      data_sources: {alice: customers, bob: clients}
      outputs: {alice: common, bob: common}
      algorithm_params:
        psi_params: {input_keys: {alice: [uid], bob: [user_id]}, receivers: [alice, bob]}
"""


def shipped_profile(name: str) -> bytes:
    """One of config/."""
    return (ROOT / "config" / name).read_bytes()


def small_profile(*replaced: tuple[str, str]) -> bytes:
    """PROFILE, with each text replaced once."""
    text = PROFILE
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new, 1)
    return text.encode()
