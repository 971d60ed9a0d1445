"""What is wrong with a profile is said: all of it at once, with line and path, and nothing is done."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import pytest

from controlplane.models import Party, Site
from controlplane.profiles import apply as profiles
from controlplane.profiles.yaml import ProfileInvalid, read, write
from tests.composed import shipped_profile, small_profile

pytestmark = pytest.mark.django_db


def problems(raw: bytes) -> dict[str, str]:
    """Path to message."""
    with pytest.raises(ProfileInvalid) as caught:
        profiles.plan(raw)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_it_tells_all_that_is_wrong_at_once_with_path_and_line() -> None:
    raw = small_profile(
        ("security: trial", "security: trail"),
        ("alice: {address: 127.0.0.1", "alice: {adress: 127.0.0.1"),
        ("20100, port_last: 20199", "20100, port_last: 20050"),
        ("columns: {user_id: str}", "columns: {user_id: text}"),
        ("semi2k: {}", "semi2k: {spu_config: {runtime_config: {protocol: SEMI3K}}}"),
        ("    spu: semi2k", "    spu: semi3k"),
        ("receivers: [alice, bob]", "receiver: [alice, bob]"),
    )
    with pytest.raises(ProfileInvalid) as caught:
        profiles.apply(raw + b"task: {}\n", "")
    lines = str(caught.value).splitlines()
    expected = [
        "line 3: security: is not one of the allowed values; should be 'production' or 'trial'",
        "line 5: parties.alice.address: is required; add it",
        "line 5: parties.alice.adress: unknown key; did you mean 'address'?",
        "line 6: parties.bob.port_last: The last port comes before the first, 20100.",
        "line 11: datasets.bob.clients.columns: 'user_id': the type should be one of int, float, str, bool.",
        "line 15: spus.semi2k.spu_config.runtime_config.protocol: is not one of the allowed values; should be ",
        "line 19: tasks.intersect.spu: there is no SPU configuration of this name; did you mean 'semi2k'?",
        "line 26: task: unknown key; did you mean 'tasks'?",
    ]
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == expected
    assert not Party.objects.exists()
    assert not Site.history.exists()


def test_what_names_something_wrong_is_not_blamed_for_it() -> None:
    raw = small_profile(("alice: {address: 127.0.0.1", "alice: {adress: 127.0.0.1"))
    assert set(problems(raw)) == {"parties.alice.adress", "parties.alice.address"}
    raw = small_profile(("both: {sf_init_config", "both: {sf_init: 1, sf_init_config"))
    assert set(problems(raw)) == {"clusters.both.sf_init"}
    # and is still judged by itself
    raw = small_profile(
        ("both: {sf_init_config", "both: {sf_init: 1, sf_init_config"), ("task_type: psi", "task_typ: psi")
    )
    assert set(problems(raw)) == {
        "clusters.both.sf_init",
        "tasks.intersect.task_config.task_typ",
        "tasks.intersect.task_config.task_type",
    }


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        (
            "[alice, bob]}}\nspus",
            "[alice, carol]}}\nspus",
            "clusters.both.sf_init_config.parties.1",
            "no party 'carol'",
        ),
        ("  bob:\n    clients", "  carol:\n    clients", "datasets.carol.clients", "there is no party of this name"),
        ("spu: semi2k", "spu: null", "tasks.intersect.spu.enable_spu", "task type psi needs this device"),
        ("bob: clients", "bob: client", "tasks.intersect.task_config.data_sources.bob", "did you mean 'clients'?"),
        ("cluster: both", "cluster: [both]", "tasks.intersect.cluster", "should be text"),
        ("    cluster: both", "    cluster: both\n    priority: 40000", "tasks.intersect.priority", "32767"),
        ("    cluster: both", "    cluster: both\n    network_retries: 4", "tasks.intersect.network_retries", "3"),
        ("  alice: {address", "  Alice: {address", "parties.Alice", "is not a valid name"),
        ("127.0.0.1", "'a b'", "parties.alice.address", "Give a host name or an IP address alone"),
        ("port_first: 20000", "port_first: 80", "parties.alice.port_first", "greater than or equal to 1024"),
        ("key_columns: [uid]", "key_columns: [id]", "datasets.alice.customers.key_columns", "not among the columns"),
        ("environment: test", "environment: " + "x" * 41, "environment", "at most 40 characters"),
        ("semi2k: {}", "semi2k: {description: " + "x" * 201 + "}", "spus.semi2k.description", "at most 200"),
        ("  semi2k: {}", "  " + "x" * 101 + ": {}", "spus." + "x" * 101, "at most 100"),
        ("semi2k: {}", 'semi2k: {description: "\\0"}', "spus.semi2k.description", "NUL"),
        ("semi2k: {}", "semi2k: {spu_config: {link_desc: {x: 1e999}}}", "spus.semi2k.spu_config.link_desc.x", "finite"),
        ("spus:", "spus: 5\nheus:", "spus", "should be an object with named keys"),
        ("age: int", "age: int, '50%': x", "datasets.alice.customers.columns", "50%"),
    ],
)
def test_it_says_what_is_wrong_where(old: str, new: str, path: str, words: str) -> None:
    assert words in problems(small_profile((old, new)))[path]


@pytest.mark.parametrize("raw", [b"", b"- a", b"text"])
def test_it_wants_named_sections(raw: bytes) -> None:
    assert problems(raw) == {
        "": "holds no profile; should be named sections: "
        "environment, security, parties, datasets, clusters, spus, heus, devices, tasks, "
        "pipelines, schedules"
    }


def test_whatever_is_wrong_with_it_is_said_and_not_raised() -> None:
    """The shipped profile with something in it replaced, anywhere, by anything."""
    draw = random.Random(20261124)
    junk: list[Any] = [
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        "",
        "x",
        "a\x00",
        "é" * 300,
        [],
        [[]],
        {},
        {"a": 1},
        {"50%": "%s"},
    ]
    whole = read(shipped_profile("prod.yaml"))[0]
    refused = 0
    for _ in range(60):
        data = deepcopy(whole)
        place, key = data, draw.choice(list(data))
        while isinstance(place[key], dict | list) and place[key] and draw.random() < 0.8:
            place = place[key]
            key = draw.choice(list(place)) if isinstance(place, dict) else draw.randrange(len(place))
        place[key] = draw.choice(junk)
        try:
            profiles.plan(write(data).encode())
        except ProfileInvalid:
            refused += 1
    assert refused > 30
    assert not Party.objects.exists()


def test_it_belongs_to_one_environment() -> None:
    profiles.apply(small_profile(), "")
    assert problems(small_profile(("environment: test", "environment: prod"))) == {
        "environment": "this is the environment 'test'; apply that one's profile, or rename this environment first, in "
        "the admin under Environment"
    }


def test_a_pipeline_and_a_schedule_are_checked_with_the_rest() -> None:
    raw = small_profile() + (
        b"pipelines:\n"
        b"  one: {nodes: {psi: {task: intersct}, b: {task: intersect, after: [c]}}}\n"
        b"  two: {nodes: {psi: {task: intersect}}, nods: {}}\n"
        b"schedules:\n"
        b"  a: {cron: 61 * * * *, pipeline: one}\n"
        b"  b: {cron: 1 * * * *, pipeline: two}\n"
        b"  c: {cron: 61 * * * *, task: intersect}\n"
        b"  d: {cron: 1 * * * *}\n"
        b"  e: {cron: 1 * * * *, pipeline: three}\n"
    )
    assert problems(raw) == {
        "pipelines.one.nodes.b.after.0": "there is no node of this name; known: psi",
        "pipelines.one.nodes.psi.task": "there is no task of this name; did you mean 'intersect'?",
        "pipelines.two.nods": "unknown key; did you mean 'nodes'?",
        "schedules.c.cron": "The minute is wrong; it may be 0 to 59.",
        "schedules.d": "runs nothing, or two things; name either a task or a pipeline",
        "schedules.e.pipeline": "there is no pipeline of this name; known: one",
    }
