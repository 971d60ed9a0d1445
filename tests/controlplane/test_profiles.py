"""An environment in one file: checked as a whole, applied wholly or not at all, and written back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection as database
from django.db import transaction

from controlplane.models import ClusterConfig, Dataset, HEUConfig, Party, Pipeline, Schedule, Site, SPUConfig, Task
from controlplane.profiles import apply as profiles
from controlplane.profiles.export import export
from controlplane.profiles.yaml import read
from tests.composed import PROFILE, make_chain, make_pipeline, make_task, shipped_profile, small_profile

pytestmark = pytest.mark.django_db
RECORDED: tuple[Any, ...] = (Site, Party, Dataset, ClusterConfig, SPUConfig, HEUConfig, Task, Pipeline, Schedule)


def recorded() -> int:
    return sum(model.history.count() for model in RECORDED)


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    call_command("profile", *arguments)
    return capsys.readouterr().out


# What is shipped


@pytest.mark.parametrize("name", ["dev.yaml", "prod.yaml"])
def test_a_shipped_profile_is_right_and_is_what_it_says(name: str) -> None:
    raw = shipped_profile(name)
    checked = profiles.plan(raw)
    assert not Party.objects.exists()
    applied = profiles.apply(raw, f"profile {name} applied")
    assert (applied, applied.left_alone, applied.broken) == (checked, [], [])
    assert len(applied.added) == sum(model.objects.count() for model in RECORDED[1:])
    rows, history = [list(model.objects.values()) for model in RECORDED], recorded()
    again = profiles.apply(raw, "once more")
    assert again.nothing
    assert ([list(model.objects.values()) for model in RECORDED], recorded()) == (rows, history)
    exported = export().encode()
    assert profiles.plan(exported).nothing
    for model in reversed(RECORDED):
        model.objects.all().delete()
    assert len(profiles.apply(exported, "").added) == len(applied.added)
    assert profiles.plan(raw).nothing


def test_a_part_of_the_demo_is_what_it_was() -> None:
    profiles.apply(shipped_profile("dev.yaml"), "")
    assert Site.current().security == "trial"
    tasks = Task.objects.filter(document__task_type__in=["psi", "lr"])
    assert list(tasks.values_list("name", "run_limit_seconds")) == [
        ("intersect patients", 600),
        ("predict malignancy", 600),
    ]
    assert len(Dataset.objects.get(party__name="bob").columns) == 17


# What it changes


def test_it_tells_what_it_would_change_and_changes_that(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(PROFILE)
    assert run("check", str(file), capsys=capsys) == f"{file} is right: 8 entries.\n"
    assert not Party.objects.exists()
    assert "+ tasks.intersect\n" in run("diff", str(file), capsys=capsys)
    assert not Party.objects.exists()
    run("apply", str(file), capsys=capsys)
    assert Task.history.get().history_change_reason == "profile small.yaml applied"
    HEUConfig.objects.create(name="by hand")
    file.write_bytes(
        small_profile(
            ("address: 127.0.0.1", "address: a.example"),
            ("semi2k: {}", "semi2k: {spu_config: {runtime_config: {field: FM64}}}"),
            ("    spu: semi2k", "    spu: semi2k\n    priority: 5"),
        )
    )
    said = run("diff", str(file), capsys=capsys)
    for words in (
        "~ parties.alice\n    address: 127.0.0.1 -> a.example\n",
        '~ spus.semi2k\n    spu_config.runtime_config: (none) -> {"field": "FM64"}\n',
        "~ tasks.intersect\n    priority: 0 -> 5\n",
        "would change: 0 added, 3 changed, 4 unchanged\n",
        "not in the profile, left alone: heus.by hand\n",
    ):
        assert words in said
    assert Party.objects.get(name="alice").address == "127.0.0.1"
    assert "applied: 0 added, 3 changed, 4 unchanged" in run("apply", str(file), capsys=capsys)
    assert (Party.objects.get(name="alice").version, Party.objects.get(name="bob").version) == (2, 1)
    assert run("apply", str(file), capsys=capsys).startswith("nothing to change: 7 entries are as the profile says\n")
    assert HEUConfig.objects.filter(name="by hand").exists()


def test_it_is_judged_by_what_results_from_it() -> None:
    """Each half of it would be refused alone: ranges of ports change hands, a column and its task's key go together."""
    profiles.apply(small_profile(), "")
    raw = small_profile(
        ("20000, port_last: 20099", "1, port_last: 2"),
        ("20100, port_last: 20199", "20000, port_last: 20099"),
        ("1, port_last: 2", "20100, port_last: 20199"),
        ("{uid: str, age: int}, key_columns: [uid]", "{id: str}, key_columns: [id]"),
        ("alice: [uid]", "alice: [id]"),
    )
    assert set(profiles.apply(raw, "").changed) == {
        "parties.alice",
        "parties.bob",
        "datasets.alice.customers",
        "tasks.intersect",
    }


def test_it_names_what_is_registered_and_not_in_it() -> None:
    make_task()
    raw = b"""
tasks:
  more: {cluster: alice-bob, spu: semi2k, task_config: {task_type: psi, data_sources: {alice: common, bob: clients},
    outputs: {alice: x}, algorithm_params: {psi_params: {input_keys: {alice: [uid], bob: [user_id]},
    receivers: [alice]}}}}
"""
    outcome = profiles.apply(raw, "")
    assert outcome.added == ["tasks.more"]
    assert "tasks.customers-psi" in outcome.left_alone
    assert not Site.objects.exists()  # what it does not say is left alone too


def test_it_tells_of_tasks_outside_of_it_that_it_breaks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_task()
    file = tmp_path / "p.yaml"
    file.write_text("spus:\n  semi2k: {spu_config: {runtime_config: {protocol: ABY3}}}\n")
    call_command("profile", "diff", str(file))
    assert (
        "not in the profile, and not valid with it: tasks.customers-psi.spu_config.runtime_config.protocol: "
        "ABY3 needs exactly 3 parties, the cluster has 2; use SEMI2K or CHEETAH"
    ) in capsys.readouterr().err


def test_outputs_of_executions_are_not_exported() -> None:
    profiles.apply(small_profile(), "")
    party = Party.objects.get(name="alice")
    origin = "7b0d2a4e-5b43-4f0c-9d1e-111111111111"
    Dataset.objects.create(party=party, name="common", columns={"uid": "str"}, produced_by=origin)
    exported = export()
    assert "common" not in read(exported.encode())[0]["datasets"]["alice"]
    outcome = profiles.plan(exported.encode())
    assert (outcome.nothing, outcome.left_alone) == (True, [])


def test_it_writes_to_a_file_or_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, parties: dict[str, Party]
) -> None:
    shown = run("export", capsys=capsys)
    assert "customers:" in shown
    assert run("export", str(tmp_path / "x.yaml"), capsys=capsys) == f"wrote {tmp_path}/x.yaml\n"
    assert (tmp_path / "x.yaml").read_text() == shown
    with pytest.raises(CommandError, match="cannot be written: No such file or directory"):
        call_command("profile", "export", str(tmp_path / "no" / "x.yaml"))


@pytest.mark.django_db(transaction=True)
def test_two_at_once_and_an_edit_between_them_come_out_whole() -> None:
    one, two = small_profile(), small_profile(("age: int", "age: float"), ("semi2k: {}", "semi2k: {description: two}"))

    def apply(raw: bytes) -> None:
        try:
            profiles.apply(raw, "")
        finally:
            database.close()

    def edit(number: int) -> None:
        try:
            for spu in SPUConfig.objects.filter(name="semi2k"):
                spu.description = f"edited {number}"
                spu.save()
        finally:
            database.close()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(apply, raw) for raw in (one, two, one, two)] + [pool.submit(edit, n) for n in (1, 2)]:
            done.result()
    assert [model.objects.count() for model in RECORDED] == [1, 2, 2, 1, 1, 0, 1, 0, 0]
    for model in RECORDED:
        for row in model.objects.all():
            versions = list(row.history.order_by("version").values_list("version", flat=True))
            assert versions == list(range(1, row.version + 1))
    profiles.apply(one, "")
    assert profiles.plan(one).nothing


@pytest.mark.django_db(transaction=True)
def test_it_waits_for_an_edit_that_is_being_saved() -> None:
    profiles.apply(small_profile(), "")
    saved = threading.Event()

    def edit() -> None:
        try:
            with transaction.atomic():
                spu = SPUConfig.objects.get()
                spu.description = "edited"
                spu.save()
                saved.set()
                time.sleep(0.5)
        finally:
            database.close()

    with ThreadPoolExecutor(1) as pool:
        editing = pool.submit(edit)
        assert saved.wait(10)
        outcome = profiles.plan(small_profile())
        editing.result()
    assert [str(change) for change in outcome.changed["spus.semi2k"]] == ["description: edited -> (none)"]


# The command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "nowhere.yaml"), "nowhere.yaml cannot be read: No such file or directory"),
        (("check", "/tmp"), "/tmp cannot be read: Is a directory"),
        (("apply",), "Name the file: `manage.py profile apply config/dev.yaml`"),
    ],
)
def test_it_tells_what_file_it_needs(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("profile", *arguments)


# Pipelines and schedules


PIPELINE = b"""
pipelines:
  patients: {nodes: {psi: {task: intersect}}}
schedules:
  nightly: {cron: 30 2 * * *, time_zone: Europe/Berlin, pipeline: patients}
"""


def test_it_holds_pipelines_and_schedules() -> None:
    raw = small_profile() + PIPELINE
    assert profiles.apply(raw, "").added[-2:] == ["pipelines.patients", "schedules.nightly"]
    schedule = Schedule.objects.get()
    assert (schedule.pipeline, schedule.owner) == (Pipeline.objects.get(), None)
    assert schedule.next_run_at
    assert profiles.plan(export().encode()).nothing
    changed = profiles.apply(raw.replace(b"30 2", b"45 3"), "").changed
    assert [str(change) for change in changed["schedules.nightly"]] == ["cron: 30 2 * * * -> 45 3 * * *"]


def test_it_says_which_pipeline_a_profile_breaks_that_it_does_not_name() -> None:
    make_chain()
    make_pipeline(a="intersect", b="again")
    again = """  again:
    cluster: both
    spu: semi2k
    task_config:
      task_type: psi
      data_sources: {alice: customers, bob: clients}
      outputs: {alice: common}
      algorithm_params: {psi_params: {input_keys: {alice: [uid], bob: [user_id]}, receivers: [alice]}}
"""
    assert [str(problem) for problem in profiles.plan(small_profile() + again.encode()).broken] == [
        "pipelines.patients.nodes.b.task_config.outputs.alice: node a keeps common at alice, too; have one of the two "
        "tasks keep it under another name"
    ]
