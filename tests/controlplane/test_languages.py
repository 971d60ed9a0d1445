"""The console speaks the language of its reader; what is stored, and what the API answers, is English."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from controlplane.models import Account, AuditEntry, SPUConfig
from controlplane.roles import ADMINISTRATOR
from tests.composed import admin_client, api_client, superuser
from tests.walked import Circle, in_role

pytestmark = pytest.mark.django_db
PAGE = "/admin/account/"
CHINESE = {"HTTP_ACCEPT_LANGUAGE": "zh-CN,zh;q=0.9"}


def text_of(client: Client, path: str, **headers: str) -> str:
    return str(client.get(path, **headers).content.decode())


def errors_in(response: Any) -> str:
    return str(response.context["adminform"].form.errors)


def chinese(user: User) -> Client:
    Account.objects.update_or_create(user=user, defaults={"language": "zh-hans"})
    return admin_client(user)


def test_the_account_page_keeps_the_language(operator: User) -> None:
    client = admin_client(operator)
    answer = client.post(PAGE, {"language": "zh-hans", "time_zone": ""}, follow=True)
    assert Account.objects.get(user=operator).language == "zh-hans"
    assert "控制台从现在起使用这些设置。" in answer.content.decode()
    answer = client.get("/admin/", HTTP_ACCEPT_LANGUAGE="en")
    assert answer.headers["Content-Language"] == "zh-hans"
    assert 'lang="zh-hans"' in answer.content.decode()
    answer = client.post(PAGE, {"language": "", "time_zone": ""}, follow=True)
    assert "The console uses these settings from now on." in answer.content.decode()
    assert client.post(PAGE, {"language": "tlh"}).context["form"].errors.keys() == {"language"}


def test_without_a_choice_the_browser_s_language_counts(operator: User) -> None:
    client = admin_client(operator)
    assert "您的账户" in text_of(client, PAGE, **CHINESE)
    assert "Your account" in text_of(client, PAGE)
    assert "Your account" in text_of(client, PAGE, HTTP_ACCEPT_LANGUAGE="de")
    Account.objects.filter(user=operator).update(language="en")
    assert "Your account" in text_of(client, PAGE, **CHINESE)


@pytest.mark.parametrize(("path", "shown"), [("/admin/login/", "登录"), ("/nowhere/", "没有这样的页面")])
def test_pages_before_signing_in_follow_the_browser(client: Client, path: str, shown: str) -> None:
    answer = client.get(path, **CHINESE)
    assert shown in answer.content.decode()
    assert "Accept-Language" in answer.headers["Vary"]


def test_the_api_speaks_english(circle: Circle, operator: User) -> None:
    chinese(operator)
    api = api_client(operator)
    task = {"name": "x", "document": {"task_type": "none"}, "cluster": circle.rows["clusterconfig"].name}
    same = {"HTTP_X_REQUEST_ID": "the-same"}  # which is in each problem
    for path in ("/api/v1/tasks/", "/api/v1/parties/", "/api/v1/nothing/"):
        assert api.get(path, **CHINESE, **same).content == api.get(path, **same).content
        for method in ("options", "post"):
            send: Any = getattr(api, method)
            body = task if method == "post" else {}
            assert send(path, body, "json", **CHINESE, **same).content == send(path, body, "json", **same).content
    assert api.get("/api/v1/openapi.json", **CHINESE, **same).content == api.get("/api/v1/openapi.json", **same).content


def test_the_errors_of_a_form_are_chinese(circle: Circle, operator: User) -> None:
    client = chinese(operator)
    config = {"name": "x", "description": "", "document__view": "text", "document__show": "text"}
    posted = config | {"document__text": '{"runtime_config": {"protocol": "none"}, "more": 1}'}
    errors = errors_in(client.post("/admin/controlplane/spuconfig/add/", posted))
    assert "runtime_config.protocol: " in errors
    assert "more: " in errors
    errors = errors_in(client.post("/admin/controlplane/schedule/add/", {"cron": "x", "time_zone": "UTC"}))
    assert "请给出五个字段" in errors


def test_what_is_stored_is_english(circle: Circle) -> None:
    administrator = in_role("administrator", ADMINISTRATOR, circle.names)
    client = chinese(administrator)
    posted = {"name": "x", "description": "", "document__view": "text", "document__text": "{}"}
    assert client.post("/admin/controlplane/spuconfig/add/", posted).status_code == 302
    assert SPUConfig.objects.filter(name="x").exists()
    assert AuditEntry.objects.first().subject == "SPU configuration x"
    group: dict[str, Any] = {"name": "readers", "permissions": [], "parties": [circle.rows["alice"].pk]}
    assert client.post("/admin/auth/group/add/", group).status_code == 302
    subjects = [entry.subject for entry in AuditEntry.objects.all()[:2]]
    assert "group readers" in subjects
    assert all(subject.isascii() for subject in subjects)
    shown = text_of(client, f"/admin/auth/user/{administrator.pk}/change/")
    assert "使用控制台" in shown


def test_lists_and_downloads(circle: Circle) -> None:
    client = chinese(superuser())
    shown = text_of(client, "/admin/controlplane/dataset/")
    assert "数据集" in shown
    assert "未报告" in shown
    answer = client.get("/admin/controlplane/dataset/csv/")
    assert 'filename="datasets_' in answer.headers["Content-Disposition"]
    assert b"not reported" in b"".join(answer.streaming_content)  # type: ignore[attr-defined]
