"""Whoever reads Chinese meets no English sentence on any page: each is asked for, and its texts are looked through.

What is named by people or is code stays as it is; a text that nobody marked for translation is found here.
"""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from redis import Redis

from controlplane.environment import ROOT
from controlplane.models import Site
from tests.filled_pages import pages_of_a_site

pytestmark = pytest.mark.django_db

REGISTRY = ROOT / "workers" / "components" / "registry.json"
PLUGINS = ROOT / "tests" / "plugin"
#: Elements whose text is code, data or not shown.
NOT_READ = {"script", "style", "code", "pre", "textarea", "svg", "output"}
#: Elements that begin no text of their own.
INLINE = {"a", "abbr", "b", "em", "i", "label", "small", "span", "strong", "sup", "time", "u"}
#: Elements without an end.
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
#: Attributes that are read out or shown.
READ = ("title", "aria-label", "aria-description", "alt", "placeholder", "data-confirm", "aria-valuetext")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
WORD = r"[A-Za-z][a-z]*(?:['-][a-z]+)*"
#: English words in a row: of so many, Chinese beside them excuses nothing.
IN_A_ROW = re.compile(rf"(?<![\w./@:_-]){WORD}(?: {WORD})+(?![\w/@_])")
MANY = 5
#: What stays as it is: names of products, and what the tests call things.
ALLOWED = (
    r"SecretFlow control plane", r"\bCtrl K\b",
    r"(alice|bob)-bob (task|pipeline|schedule|cluster|heu)", r"(spu|hsm) at \d+", r"\bof alice\b",
    # What the audit trail has noted: people search for it as it was noted
    r"(execution|pipeline run) [0-9a-f-]{36}", r"\broot by command a program\b", r"^a link to set a password$",
    r"^(user|group|execution) (gone|root|viewer|operator|x)$", r"sign in execution x", r"create group viewer",
    r"webhook (empty|hmac)",
    # Names that Django makes, and of kinds of data
    r"Group-permission relationships?.*", r"Return to site", r"sf\.\S+( or sf\.\S+)*", r"event from alice:.*",
    # The choices of a filter
    r"^(ask for checks|sign in)$",
    # A notification by what it says, in the list of what goes with a user
    r"通知: .*",
    # Names of permissions, roles, and of what the tests plug in
    r"Can (view|add|change|delete) [\w ]+", r"Party steward",
)  # fmt: skip


class Reader(HTMLParser):
    """Collects what somebody reads or hears of a page: a text for each block of it, and each attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[str] = []
        self._block: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.texts += [str(found[name]) for name in READ if found.get(name)]
        if tag == "input" and found.get("type") in ("submit", "button", "reset"):
            self.texts.append(found.get("value") or "")
        if "material-symbols-outlined" in (found.get("class") or ""):
            tag = "svg" if tag == "span" else tag  # the name of a picture
        if tag not in INLINE | NOT_READ:
            self._end_block()
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open:
            ended = self._open.pop()
            if ended not in INLINE | NOT_READ:
                self._end_block()
            if ended == tag or (ended == "svg" and tag == "span"):
                break

    def handle_data(self, data: str) -> None:
        # What is left out stands for something: the words around it are in no row
        self._block.append("\ufffc" if NOT_READ.intersection(self._open) else data)

    def close(self) -> None:
        super().close()
        self._end_block()

    def _end_block(self) -> None:
        if text := " ".join("".join(self._block).split()):
            self.texts.append(text)
        self._block.clear()


def untranslated(html: str, allowed: tuple[str, ...] = ALLOWED) -> list[str]:
    """The English texts of a page, in which only names and code should be English."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    return [text for text in dict.fromkeys(reader.texts) if _is_english(text, allowed)]


def _is_english(text: str, allowed: tuple[str, ...]) -> bool:
    if text.startswith(("{", "[")):  # JSON
        return False
    return _has_words(text, allowed) and _has_words(_without_others(text), allowed)


def _has_words(text: str, allowed: tuple[str, ...]) -> bool:
    rest = re.sub("|".join(allowed), "\ufffc", text, flags=re.IGNORECASE)
    least = MANY if CHINESE.search(rest) else 2
    return any(len(found[0].split()) >= least for found in IN_A_ROW.finditer(rest))


def _without_others(text: str) -> str:
    rest = text.lower()  # pages begin what is said with a capital letter
    for said in _said_by_others():
        rest = rest.replace(said, "\ufffc")
    return rest


@cache
def _said_by_others() -> list[str]:
    """What SecretFlow says of its components, and the task types say that the tests plug in: in English alone."""
    found: list[Any] = [json.loads(REGISTRY.read_text())]
    texts: set[str] = set()
    while found:
        one = found.pop()
        found += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        if isinstance(one, str):
            texts.add(one)
    for path in PLUGINS.glob("*.py"):
        texts |= {str(node.value) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    return sorted((" ".join(text.lower().split()) for text in texts if " " in text), key=len, reverse=True)


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<p>This is not marked</p>", ["This is not marked"]),
        ("<p>这里 <b>alice</b> 没有</p>", []),
        ("<p>出错了 <b>the disk of this host is full</b></p>", ["出错了 the disk of this host is full"]),
        ("<div><p>中文</p><p>Two words</p></div>", ["Two words"]),
        ("<ul><li>Run<li>Cancel now</ul>", ["Cancel now"]),
        ("<code>manage.py coordinate now please</code> <pre>more of it</pre>", []),
        ("<p>Run <code>manage.py coordinate</code> now</p>", []),
        ("<p>请运行 <code>manage.py coordinate</code></p>", []),
        ('<a title="Go back" href="x">返回</a>', ["Go back"]),
        ('<input placeholder="Type to search">', ["Type to search"]),
        ('<input type="submit" value="Save and go">', ["Save and go"]),
        ('<img alt="A picture"><span class="material-symbols-outlined">play arrow</span>', ["A picture"]),
        ("<script>var all = 'not a text'</script><style>p { a b c }</style>", []),
        ("<td>Specify the learning objective.</td><td>Nobody said this.</td>", ["Nobody said this."]),
        ("<td>alice-bob task</td><td>common_alice</td><td>AUC</td><td>a.b c/d</td>", []),
        ('<td>{"error": "it broke down"}</td>', []),
    ],
)  # fmt: skip
def test_the_finder_finds_what_is_english(html: str, found: list[str]) -> None:
    assert untranslated(html) == found


def test_no_page_has_an_english_sentence(connection: Redis) -> None:
    Site.current()
    pages = pages_of_a_site(connection)
    found: dict[str, str] = {}
    responses = [(path, pages.get(path)) for path in dict.fromkeys(pages.paths)]
    responses += [(path, pages.post(path, **data)) for path, data in pages.forms]
    for path, response in responses:
        if not response.streaming and "html" in response.headers.get("Content-Type", ""):
            for text in untranslated(response.content.decode()):
                found.setdefault(text, path)
    assert not found, "\n".join(f"{path}: {text[:200]}" for text, path in found.items())
