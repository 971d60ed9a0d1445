"""Pipelines: checked as a whole, run in their order with branches side by side, retried and cancelled.

The coordinator's steps, the database and Redis are real; of the parties there is what they leave behind.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import ProtectedError

from controlplane.models import Dataset, Party, Pipeline, Task
from controlplane.models.catalogue import DatabaseCatalogue
from controlplane.pipelines.layout import draw
from executions.coordinator import pipelines, schedules
from executions.models import Execution, NodeRun, PipelineRun
from executions.models.pipeline_run import NotPossible
from executions.states import TRANSITIONS, PipelineStatus, Status, transition
from tests.composed import make_chain, make_pipeline, make_task
from tests.simulated import end_node, go_on_with_pipelines_at_once, settle_pipelines
from workers.contract.problems import DocumentsInvalid

pytestmark = pytest.mark.django_db


def states(run: PipelineRun) -> dict[str, str]:
    run.refresh_from_db()
    return {node.name: str(node.state) for node in run.node_states()}


def submitted(**nodes: Any) -> PipelineRun:
    run = PipelineRun.objects.submit(make_pipeline(**nodes))
    settle_pipelines()
    return run


def problems(nodes: Any) -> dict[str, str]:
    """Path to message, of what is checked before a pipeline starts."""
    try:
        Pipeline(nodes=nodes).flow().examined(DatabaseCatalogue())
    except DocumentsInvalid as error:
        return {problem.path: problem.message for problem in error.problems}
    return {}


# What is wrong with one


@pytest.mark.parametrize(
    ("nodes", "path", "words"),
    [
        ({}, "", "is empty; fill it in"),
        ([], "", "should be an object with named keys"),
        ({"psi": {"task": "intersct"}}, "psi.task", "there is no task of this name; did you mean 'intersect'?"),
        ({"psi": {}}, "psi.task", "is required"),
        ({"psi": {"task": 5}}, "psi.task", "should be text"),
        ({"psi": {"task": "intersect", "afer": []}}, "psi.afer", "unknown key; did you mean 'after'?"),
        ({"p.s": {"task": "intersect"}}, "p.s", "is not a valid name"),
        ({"psi": {"task": "intersect", "after": ["pse"]}}, "psi.after.0", "there is no node of this name"),
        ({"psi": {"task": "intersect", "after": ["psi"]}}, "psi.after.0", "is the node itself; leave it out"),
        ({"a": {"task": "intersect"}, "b": {"task": "intersect"}}, "b.task_config.outputs.alice",
         "node a keeps common at alice, too; have one of the two tasks keep it under another name"),
        ({"psi": {"task": "intersect", "after": ["lr"]}, "lr": {"task": "train"}}, "lr",
         "waits for itself: psi waits for lr (is to come after it), lr waits for psi (reads common of alice and bob); "
         "take away one of these dependencies"),
        ({"lr": {"task": "train"}}, "lr.task_config.data_sources.bob", "bob has no dataset 'common' registered"),
        ({f"n{i}": {"task": "intersect"} for i in range(101)}, "", "should have at most 100"),
    ],
)  # fmt: skip
def test_it_says_what_is_wrong_and_at_which_node(nodes: Any, path: str, words: str) -> None:
    make_chain()
    assert words in problems(nodes)[path]


def test_it_tells_all_that_is_wrong_at_once() -> None:
    tasks = make_chain()
    Dataset.objects.filter(name="clients").update(columns={"client_id": "str"})
    tasks["train"].cluster.document = {"parties": ["alice", "carol"]}
    tasks["train"].cluster.save()
    found = problems({
        "psi": {"task": "intersect", "after": ["nobody"]},
        "lr": {"task": "train", "aftr": []},
        "gone": {"task": "nothing of the kind"},
        "more": {"task": "more"},
    })  # fmt: skip
    assert {path.partition(".")[0] for path in found} == {"psi", "lr", "gone", "more"}
    assert {"psi.after.0", "lr.aftr", "gone.task", "more.sf_init_config.parties.1"} <= set(found)
    assert "psi.task_config.algorithm_params.psi_params.input_keys.bob.0" in found


def test_columns_of_what_is_made_anew_are_not_held_against_it() -> None:
    make_chain()
    for party in Party.objects.all():
        Dataset.objects.create(party=party, name="common", columns={"other": "str"}, produced_by="0" * 32)
    assert problems({"psi": {"task": "intersect"}, "lr": {"task": "train"}}) == {}
    alone = problems({"lr": {"task": "train"}})
    assert "has no column 'age'" in alone["lr.task_config.algorithm_params.ml_params.features.alice.0"]


def test_a_node_waits_for_what_it_reads_and_what_it_is_to_come_after() -> None:
    make_chain()
    nodes = {"psi": {"task": "intersect"}, "lr": {"task": "train", "after": ["psi", "b"]}, "b": {"task": "again"}}
    steps = Pipeline(nodes=nodes).flow().steps
    assert {step.name: step.waits_for for step in steps} == {
        "b": {},
        "psi": {},
        "lr": {"psi": "reads common of alice and bob", "b": "is to come after it"},
    }
    assert [step.name for step in steps][-1] == "lr"


def test_it_tells_what_an_earlier_execution_left_and_no_node_makes() -> None:
    make_chain()
    for party in Party.objects.all():
        Dataset.objects.create(party=party, name="common", columns={}, produced_by="0" * 32)
    [lr] = Pipeline(nodes={"lr": {"task": "train"}}).flow().steps
    assert lr.earlier == ["common of alice and bob"]
    assert [
        step.earlier for step in Pipeline(nodes={"lr": {"task": "train"}, "psi": {"task": "intersect"}}).flow().steps
    ] == [[], []]


def test_a_task_that_a_pipeline_names_keeps_its_name_and_is_not_deleted() -> None:
    task = make_task("intersect")
    make_pipeline(psi="intersect")
    task.name = "renamed"
    with pytest.raises(ValidationError, match="Pipelines name it, so it keeps its name: patients"):
        task.full_clean()
    with pytest.raises(ProtectedError, match="patients"):
        Task.objects.get().delete()


def test_a_change_of_a_node_is_a_version_of_the_pipeline() -> None:
    make_chain()
    pipeline = make_pipeline(psi="intersect")
    pipeline.nodes["lr"] = {"task": "train"}
    pipeline.save()
    assert (pipeline.version, pipeline.history.count()) == (2, 2)


def test_it_is_drawn_in_layers_with_lines_that_cross_no_node() -> None:
    drawing = draw({"a": {}, "b": {"a": "x"}, "c": {"b": "x"}, "d": {"a": "reads", "c": "x", "unknown": "x"}})
    columns = {name: box.x for name, box in drawing.boxes.items()}
    assert columns["a"] < columns["b"] < columns["c"] < columns["d"]
    long = next(line for line in drawing.lines if (line.earlier, line.later) == ("a", "d"))
    b = drawing.boxes["b"]
    passes = int(re.findall(r"(\d+)H", long.path)[0])
    assert not b.y <= passes <= b.y + b.height
    assert long.title == "d reads"
    assert all(box.x + box.width < drawing.width and box.y + box.height < drawing.height
               for box in drawing.boxes.values())  # fmt: skip
    assert not {(line.earlier, line.later) for line in drawing.lines} & {("unknown", "d")}


# Running


def test_it_runs_nodes_in_the_order_of_their_data_and_branches_side_by_side(connection: Any) -> None:
    make_chain()
    user = User.objects.create_user("u")
    pipeline = make_pipeline(psi="intersect", train="train", more="more", apart="again")
    run = PipelineRun.objects.submit(pipeline, by=user)
    settle_pipelines()
    assert states(run) == {"apart": "QUEUED", "psi": "QUEUED", "more": "WAITING", "train": "WAITING"}
    end_node(run, "psi")
    assert states(run) == {"apart": "QUEUED", "psi": "SUCCESS", "more": "QUEUED", "train": "QUEUED"}
    first = run.nodes.get(name="train").execution
    assert first
    assert (first.name, first.task, first.submitted_by) == ("patients: train", Task.objects.get(name="train"), user)
    assert first.node == run.nodes.get(name="train")
    for node in ("train", "apart", "more"):
        assert run.status == PipelineStatus.RUNNING
        end_node(run, node)
    assert set(states(run).values()) == {"SUCCESS"}
    assert (run.status, run.ended_at is not None) == (PipelineStatus.SUCCESS, True)
    assert [c.to_status for c in run.changes.all()] == ["RUNNING", "SUCCESS"]
    assert Execution.objects.count() == 4


def test_it_runs_what_was_submitted_whatever_is_edited_meanwhile(connection: Any) -> None:
    tasks = make_chain()
    run = submitted(psi="intersect", train="train")
    tasks["train"].document["algorithm_params"]["ml_params"]["features"] = {"alice": ["income"]}
    tasks["train"].priority = 9
    tasks["train"].save()
    Pipeline.objects.all().delete()
    end_node(run, "psi")
    execution = run.nodes.get(name="train").execution
    assert execution
    assert execution.documents["task_config"]["algorithm_params"]["ml_params"]["features"] == {"alice": ["age"]}
    assert execution.priority == 0


def test_a_failure_holds_up_what_depends_on_it_alone_and_is_retried(connection: Any) -> None:
    make_chain()
    run = submitted(psi="intersect", train="train", after={"task": "again", "after": ["train"]}, more="more")
    end_node(run, "psi")
    failed = end_node(run, "train", Status.FAILURE)
    assert states(run) == {"psi": "SUCCESS", "more": "QUEUED", "train": "FAILURE", "after": "BLOCKED"}
    assert run.node_states()[-1].why == "waits for train (failure); retry what failed to go on"
    with pytest.raises(NotPossible, match="Node psi is SUCCESS"):
        run.retry(["psi"])
    with pytest.raises(NotPossible, match="There is no node 'trian' in this run; known: "):
        run.retry(["trian"])
    end_node(run, "more")
    assert states(run)["after"] == "BLOCKED"
    assert run.status == PipelineStatus.FAILURE
    assert run.retry() == ["train"]
    settle_pipelines()
    assert states(run) == {"psi": "SUCCESS", "more": "SUCCESS", "train": "QUEUED", "after": "WAITING"}
    end_node(run, "train")
    end_node(run, "after")
    assert states(run) == dict.fromkeys(("psi", "train", "after", "more"), "SUCCESS")
    assert [c.to_status for c in run.changes.all()] == ["RUNNING", "FAILURE", "RUNNING", "SUCCESS"]
    train = next(node for node in run.node_states() if node.name == "train")
    assert train.earlier() == [failed.pk]
    assert Execution.objects.count() == 5, "what succeeded was repeated"
    with pytest.raises(NotPossible, match="nothing to retry"):
        run.retry()


def test_a_node_can_be_retried_while_another_branch_runs(connection: Any) -> None:
    make_chain()
    run = submitted(psi="intersect", apart="again")
    end_node(run, "psi", Status.FAILURE)
    assert run.retry(["psi"]) == ["psi"]
    settle_pipelines()
    assert states(run) == {"psi": "QUEUED", "apart": "QUEUED"}
    assert run.changes.count() == 1


def test_a_node_whose_execution_is_refused_has_failed_with_the_reason(connection: Any) -> None:
    make_chain()
    run = submitted(psi="intersect", train="train")
    end_node(run, "psi", columns={"x": "int"})
    assert (states(run)["train"], run.status) == ("FAILURE", PipelineStatus.FAILURE)
    assert "alice's dataset common has no column 'age'" in run.node_states()[1].why
    Dataset.objects.filter(name="common").update(columns={"age": "int", "income": "int"})
    run.retry()
    settle_pipelines()
    assert states(run) == {"psi": "SUCCESS", "train": "QUEUED"}


def test_cancelling_stops_every_execution_and_starts_no_more(connection: Any) -> None:
    make_chain()
    user = User.objects.create_user("u")
    run = submitted(psi="intersect", apart="again", train="train")
    transition(run.nodes.get(name="apart").execution, Status.DISPATCHED, attempt=1)
    run.cancel(by=user)
    run.cancel(by=user)
    settle_pipelines()
    assert states(run) == {"psi": "CANCELLED", "apart": "CANCELLING", "train": "BLOCKED"}
    assert run.status == PipelineStatus.CANCELLING
    with pytest.raises(NotPossible):
        run.retry()
    apart = run.nodes.get(name="apart").execution
    assert apart
    assert apart.changes.get(to_status="CANCELLING").by == user
    transition(apart, Status.CANCELLED)
    settle_pipelines()
    assert states(run)["train"] == "BLOCKED"
    assert run.status == PipelineStatus.CANCELLED
    assert run.retry() == ["apart", "psi"]
    settle_pipelines()
    assert states(run) == {"psi": "QUEUED", "apart": "QUEUED", "train": "WAITING"}


def test_one_that_was_cancelled_before_it_began_goes_on(connection: Any) -> None:
    make_chain()
    run = PipelineRun.objects.submit(make_pipeline(psi="intersect"))
    run.cancel()
    settle_pipelines()
    assert (states(run), run.status) == ({"psi": "BLOCKED"}, PipelineStatus.CANCELLED)
    assert run.retry() == []
    settle_pipelines()
    assert states(run) == {"psi": "QUEUED"}


def test_what_has_ended_is_not_cancelled_nor_gone_on_with(connection: Any) -> None:
    make_chain()
    run = submitted(psi="intersect")
    end_node(run, "psi")
    # as by a coordinator that had looked before another one ended it, or where it was deleted meanwhile
    assert not pipelines.advance(run.pk)
    assert not pipelines.advance(uuid4())
    with pytest.raises(NotPossible, match="already ended with SUCCESS"):
        run.cancel()


def test_an_execution_that_is_cancelled_by_itself_ends_the_run_as_cancelled(connection: Any) -> None:
    make_chain()
    run = submitted(psi="intersect", train="train")
    end_node(run, "psi", Status.CANCELLED)
    assert states(run) == {"psi": "CANCELLED", "train": "BLOCKED"}
    assert run.status == PipelineStatus.CANCELLED


def test_a_run_changes_by_the_table_alone_and_once(connection: Any) -> None:
    make_chain()
    run = submitted(psi="intersect")
    other = PipelineRun.objects.get()
    assert transition(run, PipelineStatus.FAILURE)
    assert not transition(other, PipelineStatus.SUCCESS)
    with pytest.raises(ValueError, match="cannot go from FAILURE to SUCCESS"):
        transition(run, PipelineStatus.SUCCESS)
    assert set(TRANSITIONS[PipelineStatus]) == set(PipelineStatus)


def test_looking_for_what_there_is_to_do_takes_a_query_or_two_however_many_run(
    connection: Any, django_assert_num_queries: Any
) -> None:
    make_chain()
    pipeline = make_pipeline(psi="intersect", train="train")
    for _ in range(5):
        PipelineRun.objects.submit(pipeline)
    settle_pipelines()
    with django_assert_num_queries(2):  # nodes, due schedules
        assert not any([pipelines.step(), schedules.step()])


# Killed, and two at once


@pytest.mark.parametrize("point", ["executions.models.StateChange.objects.create", "executions.models.NodeRun.save"])
def test_a_coordinator_that_is_killed_leaves_a_node_with_one_execution_or_none(
    connection: Any, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    make_chain()
    run = PipelineRun.objects.submit(make_pipeline(psi="intersect"))
    with monkeypatch.context() as patched:

        def die(*_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

        patched.setattr(point, die)
        with pytest.raises(KeyboardInterrupt):
            pipelines.step()
    assert not Execution.objects.exists()
    settle_pipelines()
    assert states(run) == {"psi": "QUEUED"}
    assert Execution.objects.count() == 1


def die(**_: Any) -> None:
    raise KeyboardInterrupt


def test_one_that_is_killed_before_it_ends_a_run_leaves_it_to_the_next(
    connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_chain()
    run = submitted(psi="intersect")
    Execution.objects.update(status=Status.SUCCESS)
    with monkeypatch.context() as patched:
        patched.setattr("executions.models.PipelineChange.objects.create", die)
        with pytest.raises(KeyboardInterrupt):
            pipelines.step()
    run.refresh_from_db()
    assert run.status == PipelineStatus.RUNNING
    settle_pipelines()
    assert (states(run), run.status) == ({"psi": "SUCCESS"}, PipelineStatus.SUCCESS)


@pytest.mark.django_db(transaction=True)
def test_two_coordinators_make_one_execution_of_each_node(connection: Any) -> None:
    make_chain()
    pipeline = make_pipeline(psi="intersect", apart="again")
    runs = [PipelineRun.objects.submit(pipeline) for _ in range(3)]

    go_on_with_pipelines_at_once(4)
    assert Execution.objects.count() == 6
    assert NodeRun.objects.filter(execution=None).count() == 0
    for run in runs:
        for node in run.nodes.all():
            assert list(node.executions.all()) == [node.execution]
