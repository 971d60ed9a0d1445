"""What was run, for whoever reads Chinese: pages are Chinese; what is stored, sent and downloaded stays English."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

import pytest
from django.test import Client
from django.utils.translation import override

from controlplane.models import AuditEntry, Notice, Schedule
from executions.models import DeadLetter, Notification, PipelineRun
from executions.results.figures import shown
from executions.states import Status
from tests.composed import make_execution, make_pipeline, make_task, page_of, superuser

pytestmark = pytest.mark.django_db

PSI = {"original_count": {"alice": 460, "bob": 450}, "intersection_count": {"alice": 363, "bob": 363}}


@pytest.fixture
def chinese(admin: Client) -> Any:
    """Asks for a page as a Chinese browser does."""

    def get(path: str, **data: str) -> Any:
        return admin.get(path, data, HTTP_ACCEPT_LANGUAGE="zh-CN,zh;q=0.9")

    return get


def test_a_result_is_a_chinese_sentence_and_its_file_has_english_heads(chinese: Any) -> None:
    execution = make_execution(status=Status.SUCCESS, result=PSI)
    page = chinese(page_of(execution)).content.decode()
    assert "共有 363 行（alice 460 行、bob 450 行）。" in page  # noqa: RUF001
    assert "rows in common" not in page
    file = chinese(f"/admin/executions/execution/{execution.pk}/result/1/")
    assert file.content.decode().splitlines()[0] == "Party,Rows,In common"
    assert "Rows_by_party" in file.headers["Content-Disposition"]


def test_the_least_words_of_a_result_and_of_a_schedule_are_chinese_too(chinese: Any) -> None:
    found = {"rows": 5, "parties": 2}
    counted = make_execution(status=Status.SUCCESS, task_type="he_sum", result=found)
    page = chinese(page_of(counted)).content.decode()
    assert "Parties" not in page.partition("<main")[2].partition("<details")[0]
    with override("zh-hans"):
        assert [shown(True), shown(False)] == ["是", "否"]
    Schedule.objects.create(name="nightly", task=make_task("only"), cron="0 3 * * *", owner=superuser())
    rows = chinese("/admin/controlplane/schedule/").content.decode()
    assert "任务 only" in rows
    assert "task only" not in rows


def test_an_error_is_chinese_with_the_names_in_it_and_stays_english_where_it_is_stored(chinese: Any) -> None:
    error = "the worker of alice is gone, and its job with it"
    execution = make_execution(status=Status.FAILURE, error=error, error_type="ResourceError", error_party="alice")
    page = chinese(page_of(execution)).content.decode()
    assert "alice 的工作进程已消失" in page
    assert "会自动重试" in page, "and what to do about it"
    execution.refresh_from_db()
    assert execution.error == error


def test_badges_have_their_colours_in_each_language(chinese: Any, admin: Client) -> None:
    make_execution(status=Status.FAILURE)
    path = "/admin/executions/execution/"
    for page, word in ((chinese(path), "失败"), (admin.get(path), "failure")):
        assert re.search(rf"<span[^>]*\bbg-red-[^>]*>\s*{word}\s*<", page.content.decode()), word


def test_a_diagnosis_and_lists_as_files_are_english(chinese: Any) -> None:
    execution = make_execution(status=Status.FAILURE, error="a party stopped without saying why")
    packed = chinese(f"/admin/executions/execution/{execution.pk}/diagnosis/").content
    reading = zipfile.ZipFile(io.BytesIO(packed)).read("reading.txt").decode()
    assert ": failure, attempt" in reading
    make_task("only")
    PipelineRun.objects.submit(make_pipeline(only="only"))
    assert "0 / 1" in chinese("/admin/executions/pipelinerun/").content.decode()
    file = b"".join(chinese("/admin/executions/pipelinerun/csv/").streaming_content).decode()
    assert "nodes done" in file
    assert "0 of 1" in file


def test_notifications_dead_letters_and_audit_are_shown_in_chinese(chinese: Any) -> None:
    Notification.objects.create(user=superuser(), kind=Notice.PARTY_AWAY, text="alice has no live worker")
    assert "alice 没有在线的工作进程" in chinese("/admin/notifications/").content.decode()
    letter = DeadLetter.objects.create(party="alice", kind="event", reason="it is no JSON", content="x", size=1)
    for path in ("/admin/executions/deadletter/", f"/admin/executions/deadletter/{letter.pk}/change/"):
        assert "它不是 JSON" in chinese(path).content.decode()
    letter.refresh_from_db()
    assert letter.reason == "it is no JSON"
    AuditEntry.objects.create(actor="ann", action="ask for checks", subject="execution x", details="cancelled by ann")
    page = chinese("/admin/controlplane/auditentry/").content.decode()
    assert "请求检查" in page
    assert "由 ann 取消" in page


def test_the_api_speaks_english_whatever_the_browser_asks_for(chinese: Any) -> None:
    execution = make_execution(waiting_for="all workers of alice are busy")
    found = chinese(f"/api/v1/executions/{execution.pk}/").json()
    assert found["waiting_for"] == "all workers of alice are busy"
