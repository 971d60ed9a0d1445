"""The upgrade to grants: nobody loses what they had, and what was run knows its parties."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection as database
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from controlplane.roles import ROLES

BEFORE = [
    ("knox", "0009_extend_authtoken_field"),
    ("controlplane", "0001_squashed_0010_lists_of_millions"),
    ("executions", "0001_squashed_0008_lists_of_millions"),
]


def migrate(targets: Any) -> Any:
    executor = MigrationExecutor(database)
    executor.migrate(targets)
    return MigrationExecutor(database).loader.project_state(targets).apps


@pytest.mark.django_db(transaction=True)
def test_nobody_loses_access_at_the_upgrade() -> None:
    newest = MigrationExecutor(database).loader.graph.leaf_nodes()
    try:
        old = migrate(BEFORE)
        user = old.get_model("auth", "User").objects.create(username="ann", is_staff=True)
        root = old.get_model("auth", "User").objects.create(username="root", is_superuser=True)
        old.get_model("knox", "AuthToken").objects.create(digest="d" * 128, token_key="d" * 15, user=user)
        both = {"parties": ["bob", "alice"]}
        old.get_model("controlplane", "ClusterConfig").objects.create(name="both", document=both)
        old.get_model("controlplane", "ClusterConfig").objects.create(name="broken", document=[])
        executions = old.get_model("executions", "Execution").objects
        for parties in (["alice", "bob"], ["bob", "alice"], ["carol", "dave"]):
            executions.create(parties=parties, task_type="psi")
        run = old.get_model("executions", "PipelineRun").objects.create(name="run", created_at=timezone.now())
        for position, parties in enumerate((["alice", "bob"], ["alice", "carol"])):
            document = {"sf_init_config": {"parties": parties}}
            old.get_model("executions", "NodeRun").objects.create(
                run=run, name=f"n{position}", position=position, documents=document
            )
    finally:
        new = migrate(newest)
    grants = new.get_model("controlplane", "PartyGrant").objects
    assert list(grants.filter(user=user.pk).values_list("all_parties", flat=True)) == [True]
    assert not grants.filter(user=root.pk).exists()
    terms = new.get_model("controlplane", "TokenTerms").objects.get()
    assert (terms.scopes, terms.parties) == (["manage", "read", "submit"], None)
    found = new.get_model("executions", "Execution").objects.values_list("party_set__names", flat=True)
    assert sorted(found) == [["alice", "bob"], ["alice", "bob"], ["carol", "dave"]]
    members = new.get_model("controlplane", "PartySetMember").objects
    assert members.filter(party="alice").count() == 2
    assert new.get_model("executions", "PipelineRun").objects.get().party_set.names == ["alice", "bob", "carol"]
    assert new.get_model("controlplane", "ClusterConfig").objects.get(name="both").party_set.names == ["alice", "bob"]
    assert set(ROLES) <= set(Group.objects.values_list("name", flat=True))


@pytest.mark.django_db
def test_a_database_between_migrations_that_are_one_by_now_is_refused() -> None:
    recorder = MigrationRecorder(database)
    recorder.migration_qs.filter(app="controlplane", name__startswith="0001_squashed").delete()
    recorder.migration_qs.filter(app="controlplane", name="0010_lists_of_millions").delete()
    with pytest.raises(SystemCheckError, match="has 9 of the 10 migrations of controlplane"):
        call_command("migrate", verbosity=0, skip_checks=False)
