"""Webhooks in the console: each user's own, with a key that is shown once, a log, test events, and sending again."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from controlplane.documents.encryption import decrypted
from controlplane.models import Site
from executions.coordinator.posting import BOTH_KEYS_FOR
from executions.coordinator.webhooks import make_key, prepare_test
from executions.models import Execution, PostStatus, Webhook, WebhookDelivery
from executions.models.webhook import NotPossible
from tests.composed import admin_client, api_client, errors_of, make_execution, make_user
from tests.listed import rows_of

pytestmark = pytest.mark.django_db
HOOKS = "/admin/executions/webhook/"
GONE = "the server answered with status 410: it is gone"
FORM: dict[str, Any] = {
    "name": "reports", "url": "https://hooks.example/abc", "events": ["execution.success", "execution.failure"],
    "party": "alice", "labels": "team:risk\nnote: a:b ", "signature": "hmac", "enabled": "on",
}  # fmt: skip


@pytest.fixture
def ann(parties: Any) -> User:
    Site.objects.create(environment="dev", security="trial")
    return make_user("ann", "view_execution")


@pytest.fixture
def console(ann: User) -> Client:
    return admin_client(ann)


def text_of(response: Any) -> str:
    text: str = response.content.decode()
    return text


def errors_in(response: Any) -> dict[str, list[str]]:
    """What the form says is wrong."""
    assert response.status_code == 200
    found: dict[str, list[str]] = response.context["adminform"].form.errors
    return found


def add(console: Client, **fields: Any) -> Webhook:
    response = console.post(f"{HOOKS}add/", FORM | fields)
    assert "data-secret" in text_of(response), response.context and errors_in(response)
    return Webhook.objects.latest("pk")


def opened(console: Client, hook: Webhook) -> dict[str, Any]:
    """What the browser has after the page of a webhook was opened."""
    form = console.get(f"{HOOKS}{hook.pk}/change/").context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    return {name: value for name, value in values.items() if value not in (None, False)}


def queries(console: Client, path: str) -> int:
    with CaptureQueriesContext(database) as found:
        assert console.get(path).status_code == 200
    return len(found)


# Adding, and the key


def test_a_webhook_is_added_and_its_key_is_shown_once(console: Client, ann: User) -> None:
    response = console.post(f"{HOOKS}add/", FORM)
    hook = Webhook.objects.get()
    key = decrypted(hook.secret)
    assert key
    assert key.startswith("whsec_")
    assert key in text_of(response)
    assert "no-store" in response["Cache-Control"]
    for path in (
        "",
        "add/",
        f"{hook.pk}/change/",
        f"{hook.pk}/deliveries/",
        f"{hook.pk}/new-key/",
        f"{hook.pk}/delete/",
    ):
        assert key not in text_of(console.get(HOOKS + path))
    api = api_client(ann)
    made = api.get(f"/api/v1/webhooks/{hook.pk}/").json()["created_at"]
    assert api.get("/api/v1/webhooks/").json()["results"] == [
        {
            "id": hook.pk, "name": "reports", "url": FORM["url"], "events": FORM["events"], "party": "alice",
            "labels": {"team": "risk", "note": "a:b"}, "signature": "hmac", "public_key": "", "enabled": True,
            "disabled_because": "", "version": 1, "created_at": made,
            "deliveries_url": f"http://testserver/api/v1/webhooks/{hook.pk}/deliveries/",
        }
    ]  # fmt: skip
    assert hook.limited_to is None


def test_a_new_key_is_shown_once_and_the_former_one_signs_for_a_day(console: Client) -> None:
    hook = add(console)
    former = hook.secret
    question = console.get(f"{HOOKS}{hook.pk}/new-key/")
    assert "For one day both keys sign" in text_of(question)
    assert Webhook.objects.get().secret == former, "asking changes nothing"
    posted = {"version": re.findall(r'name="version" value="(\d+)"', text_of(question))[0]}
    response = console.post(f"{HOOKS}{hook.pk}/new-key/", posted)
    hook.refresh_from_db()
    assert str(decrypted(hook.secret)) in text_of(response)
    assert "no-store" in response["Cache-Control"]
    assert (hook.version, hook.former_secret, hook.secret != former) == (2, former, True)
    assert hook.former_until
    assert timedelta() < timezone.now() + BOTH_KEYS_FOR - hook.former_until < timedelta(minutes=1)
    assert "It signs, too, until" in text_of(console.get(f"{HOOKS}{hook.pk}/change/"))
    again = console.post(f"{HOOKS}{hook.pk}/new-key/", posted, follow=True)
    assert "The webhook was changed meanwhile, and nothing was done" in text_of(again)
    assert Webhook.objects.get().version == 2, "sent twice, it makes no further key"


def test_the_public_key_of_ed25519_stays_on_the_page(console: Client) -> None:
    hook = add(console, signature="ed25519")
    assert hook.public_key.startswith("whpk_")
    assert str(decrypted(hook.secret)) not in hook.public_key
    for path in ("change/", "new-key/"):
        page = text_of(console.get(f"{HOOKS}{hook.pk}/{path}"))
        assert (hook.public_key in page) == (path == "change/")
        assert str(decrypted(hook.secret)) not in page


# What may be entered


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"url": "ftp://x/"}, "url", "Enter an address that begins with https://"),
        ({"url": "https://127.0.0.1/"}, "url", "127.0.0.1 is a private address, to which webhooks may not lead."),
        ({"url": "https://me:pass@hooks.example/"}, "url", "Leave user and password out of the address"),
        ({"url": "https://hooks.example:99999/"}, "url", "This is no address; enter one such as"),
        ({"url": "x" * 501}, "url", "at most 500 characters"),
        ({"name": ""}, "name", "required"),
        ({"name": "taken"}, "name", "you have a webhook of this name already; give it another one"),
        ({"name": "a\0b"}, "name", "Null characters are not allowed"),
        ({"events": ["execution.done"]}, "events", "execution.done is not one of the available choices"),
        ({"signature": "rsa"}, "signature", "rsa is not one of the available choices"),
        ({"party": "nobody"}, "party", "nobody is not one of the available choices"),
        ({"labels": "team:risk\nteam"}, "labels", "Line 2: write a label as key:value, such as team:risk."),
        ({"labels": ":risk"}, "labels", "Line 1: write a label as key:value"),
        ({"labels": "a:b\n\na:c"}, "labels", "Line 3: a is there twice; leave one of them out."),
        ({"labels": "a b:c"}, "labels", "a b: A key begins with a letter or digit"),
        ({"labels": "a:" + "x" * 101}, "labels", "a: A value is a text of up to 100 characters"),
        ({"labels": "\n".join(f"k{n}:" for n in range(21))}, "labels", "There may be up to 20 labels."),
    ],
)
def test_it_says_what_is_wrong(console: Client, fields: Any, name: str, words: str) -> None:
    add(console, name="taken")
    errors = errors_in(console.post(f"{HOOKS}add/", FORM | fields))
    assert [*errors] == [name]
    assert words in errors[name][0]
    hook = Webhook.objects.get()
    if name not in ("name", "signature"):
        assert words in errors_in(console.post(f"{HOOKS}{hook.pk}/change/", opened(console, hook) | fields))[name][0]
        assert Webhook.objects.get().version == 1


def test_what_the_form_and_the_api_say_is_the_same(console: Client, ann: User) -> None:
    add(console, name="taken")
    api = api_client(ann)
    for fields in ({"url": "https://10.0.0.1/"}, {"name": "taken"}):
        (name,) = fields
        form = errors_in(console.post(f"{HOOKS}add/", FORM | fields))[name][0]
        sent = {"name": "x", "url": "https://hooks.example/"} | fields
        assert errors_of(api.post("/api/v1/webhooks/", sent, format="json"))[name] == form


def test_two_who_add_one_of_the_same_name_at_once_get_a_message(
    console: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(console)
    monkeypatch.setattr("executions.admin.webhook_form.problem_of_name", lambda *_, **__: "")
    try:
        response = console.post(f"{HOOKS}add/", FORM, follow=True)
    except IntegrityError:
        pytest.fail("it is told")
    assert "Another request changed the same things at the same moment; nothing was saved." in text_of(response)
    assert Webhook.objects.count() == 1


def test_there_are_not_too_many(console: Client) -> None:
    for number in range(20):
        add(console, name=str(number))
    for response in (console.get(f"{HOOKS}add/", follow=True), console.post(f"{HOOKS}add/", FORM, follow=True)):
        assert "You have 20 webhooks already; remove one first." in text_of(response)
    assert Webhook.objects.count() == 20


# Changing


def test_the_second_of_two_who_change_it_is_told(console: Client, ann: User) -> None:
    hook = add(console)
    mine, theirs = opened(console, hook), opened(console, hook)
    assert console.post(f"{HOOKS}{hook.pk}/change/", theirs | {"labels": "", "events": []}).status_code == 302
    hook.refresh_from_db()
    assert (hook.version, hook.labels, hook.events, hook.party) == (2, {}, [], "alice")
    answer = console.post(f"{HOOKS}{hook.pk}/change/", mine | {"name": "other"})
    assert "Somebody saved version 2 after you had opened version 1. Nothing of yours is saved" in text_of(answer)
    api = api_client(ann)
    assert api.patch(f"/api/v1/webhooks/{hook.pk}/", {"party": ""}, format="json").json()["version"] == 3
    assert console.post(f"{HOOKS}{hook.pk}/change/", opened(console, hook) | {"name": "other"}).status_code == 302
    hook.refresh_from_db()
    assert (hook.version, hook.name, hook.party) == (4, "other", "")


def test_the_key_and_the_signature_stay_as_they_are(console: Client) -> None:
    hook = add(console)
    sent = opened(console, hook) | {"signature": "ed25519", "secret": "x", "owner": "1", "limited_to": "[]"}
    assert console.post(f"{HOOKS}{hook.pk}/change/", sent).status_code == 302
    now = Webhook.objects.get()
    assert (now.signature, now.secret, now.owner_id, now.limited_to) == ("hmac", hook.secret, hook.owner_id, None)


def test_why_it_was_switched_off_is_said_until_it_is_switched_on(console: Client) -> None:
    hook = add(console)
    before = opened(console, hook)
    Webhook.objects.update(enabled=False, disabled_because=GONE, version=2)
    for path in ("", f"{hook.pk}/change/"):
        assert GONE in text_of(console.get(HOOKS + path))
    tried = console.post(f"{HOOKS}{hook.pk}/test/", follow=True)
    assert "The webhook is switched off; switch it on to try it." in text_of(tried)
    stale = console.post(f"{HOOKS}{hook.pk}/change/", before)
    assert "Nothing of yours is saved" in text_of(stale), "a form from before does not switch it on unawares"
    console.post(f"{HOOKS}{hook.pk}/change/", opened(console, hook))
    assert (Webhook.objects.get().enabled, Webhook.objects.get().disabled_because) == (False, GONE)
    console.post(f"{HOOKS}{hook.pk}/change/", opened(console, hook) | {"enabled": "on"})
    assert (Webhook.objects.get().enabled, Webhook.objects.get().disabled_because) == (True, "")


def test_a_party_that_is_gone_stays_chosen(console: Client) -> None:
    hook = add(console)
    Webhook.objects.update(party="gone")
    assert console.post(f"{HOOKS}{hook.pk}/change/", opened(console, hook) | {"name": "x"}).status_code == 302
    assert Webhook.objects.get().party == "gone"


def test_deleting_one_reads_nothing_of_its_log(console: Client) -> None:
    hook = add(console)
    few = queries(console, f"{HOOKS}{hook.pk}/delete/")
    for _ in range(30):
        prepare_test(hook)
    assert queries(console, f"{HOOKS}{hook.pk}/delete/") == few
    assert "reports, with the log of its deliveries" in text_of(console.get(f"{HOOKS}{hook.pk}/delete/"))
    chosen = {"action": "delete_selected", "_selected_action": [str(hook.pk)]}
    assert "with the log of its deliveries" in text_of(console.post(HOOKS, chosen))
    assert console.post(f"{HOOKS}{hook.pk}/delete/", {"post": "yes"}).status_code == 302
    assert (Webhook.objects.count(), WebhookDelivery.objects.count()) == (0, 0)


# Who may


def test_everybody_has_their_own_and_superusers_see_all(console: Client, admin: Client) -> None:
    hook = add(console)
    delivery = prepare_test(hook)
    other = admin_client(make_user("bea", "view_execution"))
    assert rows_of(other, HOOKS) == []
    pages = ("change/", "delete/", "history/", "deliveries/", "test/", "new-key/", f"deliveries/{delivery.pk}/")
    for page in (*pages, f"deliveries/{delivery.pk}/again/"):
        for response in (
            other.get(f"{HOOKS}{hook.pk}/{page}"),
            other.post(f"{HOOKS}{hook.pk}/{page}", {"post": "yes"}),
        ):
            assert response.status_code == 404, page
    own = add(other)
    assert other.get(f"{HOOKS}{own.pk}/deliveries/{delivery.pk}/").status_code == 404, "it is another webhook's"
    assert rows_of(console, HOOKS) == [hook.pk]
    assert "Owner" not in text_of(console.get(HOOKS))
    assert rows_of(admin, HOOKS) == [own.pk, hook.pk]
    assert "Owner" in text_of(admin.get(HOOKS))
    assert console.get(f"{HOOKS}{hook.pk}/change/").status_code == 200
    taken = admin.post(f"{HOOKS}{hook.pk}/change/", opened(admin, add(console, name="two")) | {"name": "reports"})
    assert taken.status_code == 302, "of another's webhook, it is the owner's names that count"
    two = Webhook.objects.get(name="two")
    errors = errors_in(admin.post(f"{HOOKS}{two.pk}/change/", opened(admin, two) | {"name": "reports"}))
    assert errors["name"] == ["ann has a webhook of this name already; give it another one"]
    assert admin.post(f"{HOOKS}{two.pk}/change/", opened(admin, two) | {"party": ""}).status_code == 302
    assert Webhook.objects.get(name="two").owner == hook.owner


def test_who_may_not_view_executions_has_none(console: Client, ann: User) -> None:
    hook = add(console)
    assert HOOKS in text_of(console.get("/admin/account/"))
    ann.user_permissions.clear()
    stranger = admin_client(User.objects.get(pk=ann.pk))
    for path in ("", "add/", f"{hook.pk}/change/", f"{hook.pk}/delete/"):
        assert stranger.get(HOOKS + path).status_code == 403
    for path in ("deliveries/", "test/", "new-key/"):
        assert stranger.post(f"{HOOKS}{hook.pk}/{path}").status_code in (403, 404)
    assert Webhook.objects.get().version == 1
    assert HOOKS not in text_of(stranger.get("/admin/account/"))


@pytest.mark.parametrize("key", ["x", "0", "9" * 30, "1%2F", "-1"])
def test_what_is_no_webhook_is_not_found(console: Client, key: str) -> None:
    hook = add(console)
    for page in ("change/", "deliveries/", "test/", "new-key/", "deliveries/1/", "deliveries/1/again/"):
        assert console.get(f"{HOOKS}{key}/{page}").status_code == 404, page
    for number in ("0", "9" * 30, "x"):
        assert console.get(f"{HOOKS}{hook.pk}/deliveries/{number}/", follow=True).status_code == 404


# The log


def deliver(hook: Webhook, execution: Execution | None = None, **fields: Any) -> WebhookDelivery:
    tries = fields.pop("tries", [{"at": timezone.now().isoformat(), "status": 200, "error": "", "seconds": 0.25}])
    made: WebhookDelivery = WebhookDelivery.objects.create(
        webhook=hook, execution=execution.pk if execution else None, event_type="execution.failure",
        body=json.dumps({"data": {"name": "Ü<b>"}}),
        **{"status": PostStatus.SENT, "ended_at": timezone.now(), "tries": tries, "number_of_tries": 1} | fields,
    )  # fmt: skip
    return made


def test_the_log_is_filtered_by_status_and_in_pages(console: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    hook, other = add(console), add(console, name="other")
    assert "Nothing was posted yet" in text_of(console.get(f"{HOOKS}{hook.pk}/deliveries/"))
    error = "the server answered with status 500"
    tries = [{"at": timezone.now().isoformat(), "status": 500, "error": error, "seconds": 1}]
    made = [deliver(hook, status=status, tries=tries).pk for status in (*PostStatus, PostStatus.SENT)]
    deliver(other)
    log = f"{HOOKS}{hook.pk}/deliveries/"
    assert rows_of(console, log) == made[::-1]
    assert rows_of(console, log, status__exact="SENT") == [made[3], made[1]]
    assert rows_of(console, log, status__exact="GIVEN_UP") == [made[2]]
    assert error in text_of(console.get(log))
    assert "data-live" in text_of(console.get(log, {"status__exact": "PENDING"}))
    assert "data-live" not in text_of(console.get(log, {"status__exact": "SENT"}))
    rows = text_of(console.get(log, headers={"X-Rows-Alone": "1"}))
    assert "<html" not in rows
    monkeypatch.setattr("executions.admin.deliveries.DeliveryLog.list_per_page", 3)
    assert rows_of(console, log, p="2") == [made[0]]
    assert "4 webhook deliveries" in text_of(console.get(log))
    for query in ("webhook__owner__password__startswith=x", "status__exact=x", "p=x", "o=9", "q=x", "body=x"):
        assert console.get(f"{log}?{query}", follow=True).status_code in (200, 400), query


def test_the_log_counts_no_more_than_it_tells(console: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = add(console)
    for _ in range(4):
        deliver(hook)
    monkeypatch.setattr("controlplane.admin.listing.MOST_COUNTED", 2)
    monkeypatch.setattr("executions.admin.deliveries.DeliveryLog.list_per_page", 3)
    with CaptureQueriesContext(database) as found:
        assert "more than 2 webhook deliveries" in text_of(console.get(f"{HOOKS}{hook.pk}/deliveries/"))
    counts = [query["sql"] for query in found if "COUNT(" in query["sql"] and "webhookdelivery" in query["sql"]]
    assert counts
    assert all("LIMIT 3" in sql for sql in counts)


def test_a_delivery_shows_its_tries_and_its_body(console: Client) -> None:
    hook, execution = add(console), make_execution()
    tries = [
        {"at": timezone.now().isoformat(), "status": None, "error": "TimeoutError: timed out", "seconds": 5.0},
        {"at": timezone.now().isoformat(), "status": 200, "error": "", "seconds": 0.25},
    ]
    page = text_of(console.get(f"{HOOKS}{hook.pk}/deliveries/{deliver(hook, execution, tries=tries).pk}/"))
    for said in (
        "TimeoutError: timed out",
        "0.25 s",
        "200",
        f"/execution/{execution.pk}/change/",
        "&quot;Ü&lt;b&gt;&quot;",
    ):
        assert said in page, said
    gone = deliver(hook, execution)
    Execution.objects.all().delete()
    for path in (f"deliveries/{gone.pk}/", "deliveries/"):
        assert f"/execution/{execution.pk}/" not in text_of(console.get(f"{HOOKS}{hook.pk}/{path}"))


def test_an_event_is_sent_again_and_a_test_event_is_sent(console: Client) -> None:
    hook = add(console)
    asked = console.get(f"{HOOKS}{hook.pk}/test/")
    assert "Post a test event to hooks.example?" in text_of(asked)
    assert not WebhookDelivery.objects.exists()
    answer = console.post(f"{HOOKS}{hook.pk}/test/", follow=True)
    assert answer.redirect_chain[0][0] == f"{HOOKS}{hook.pk}/deliveries/"
    delivery = WebhookDelivery.objects.get()
    assert (delivery.event_type, delivery.webhook_id, delivery.status) == ("webhook.test", hook.pk, "PENDING")
    again = f"{HOOKS}{hook.pk}/deliveries/{delivery.pk}/again/"
    assert again not in text_of(console.get(again.removesuffix("again/")))
    assert "It is still to be posted; the log says when it is tried next." in text_of(console.post(again, follow=True))
    WebhookDelivery.objects.update(status=PostStatus.GIVEN_UP, ended_at=timezone.now(), due_at=timezone.now())
    assert again in text_of(console.get(again.removesuffix("again/")))
    assert str(delivery.message) in text_of(console.get(again))
    assert WebhookDelivery.objects.get().status == PostStatus.GIVEN_UP, "asking changes nothing"
    assert "The event is posted again." in text_of(console.post(again, follow=True))
    sent = WebhookDelivery.objects.get()
    assert (sent.status, sent.ended_at, sent.message) == (PostStatus.PENDING, None, delivery.message)


# Lists


def test_the_list_says_what_came_of_the_latest_delivery(console: Client) -> None:
    hook = add(console)
    assert "hooks.example" in text_of(console.get(HOOKS))
    assert "success, failure" in text_of(console.get(HOOKS))
    tries = [
        {"at": timezone.now().isoformat(), "status": 503, "error": "the server answered with status 503", "seconds": 1}
    ]
    deliver(hook)
    deliver(hook, status=PostStatus.GIVEN_UP, tries=tries)
    page = text_of(console.get(HOOKS))
    assert "given up" in page
    assert "the server answered with status 503" in page


def test_pages_take_as_many_queries_however_many_rows_there_are(admin: Client, parties: Any) -> None:
    hook = add(admin)
    deliver(hook, make_execution())
    paths = [HOOKS, f"{HOOKS}{hook.pk}/change/", f"{HOOKS}{hook.pk}/deliveries/",
             f"{HOOKS}{hook.pk}/deliveries/{WebhookDelivery.objects.get().pk}/"]  # fmt: skip
    few = [queries(admin, path) for path in paths]
    for number in range(19):
        for _ in range(3):
            deliver(add(admin, name=f"{number}-{_}") if _ == 0 and number < 18 else hook, make_execution())
    assert [queries(admin, path) for path in paths] == few
    assert max(few) < 20, few


def test_the_api_makes_no_key_of_a_version_that_is_past(api: APIClient, console: Client) -> None:
    hook = add(console)
    stale = Webhook.objects.get()
    Webhook.objects.update(version=5)
    with pytest.raises(NotPossible, match="changed meanwhile"):
        make_key(stale)
    assert Webhook.objects.get().secret == hook.secret
