"""``make translations``: brings the catalogues of Chinese texts up to date with the code, and compiles them.

A text that is new stands in its catalogue without a translation; a test fails until it has one. Babel reads the code,
as GNU gettext, which Django's own commands need, is not part of an installation.
"""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import django
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.apps import apps
from django.utils.translation.template import templatize
from simple_history.models import HistoricalChanges

from controlplane.environment import ROOT
from controlplane.forms.schema import json_schema, label
from workers.contract.layers import layers, model_of
from workers.contract.registry import TASK_EXECUTOR_REGISTRY

LOCALE = "zh_Hans"
#: Letters of a stored text beside its gaps (controlplane.language).
LEAST_LETTERS = 4
#: What looks like a text, and what does not although it has blanks.
TEXT = re.compile(r"[A-Za-z]{2,}[,;:]? [A-Za-z{(]|\{\} [a-z]{2,}")
NO_TEXT = re.compile(
    r"^SELECT|^UPDATE|^\n|redis\.call|^PRAGMA|^[A-Z_]+ [a-z]+=|\.\*|[|]| \.\.\. |^\.\.\. |\.\.\.$|"
    r"^(blmove|ping|queue|sadd|exists|pttl)( [a-z_]+)+$"
)
NO_TEXT_CALL = re.compile(r"log\.|record$|isolated$|guarded$|getattr|models\.|_$|gettext")
#: Words of unfold, which has no Chinese of its own.
OF_UNFOLD = (
    "Type to search", "Select action to run", "Select action", "Select record", "Select all rows", "Select value",
    "Apply Filters", "Go back", "Date from", "Date to", "Return to site", "Previous", "Next",
    "Welcome back to", "Light", "Dark",
    "Choose a date from the list below to revert to a previous version of this object",
)  # fmt: skip
#: What kinds and ranges of parameters are put together to (controlplane.task_types, controlplane.forms.schema).
OF_PARAMETERS = (
    "From {}.", "From {} to {}.", "Above {}.", "Above {} to {}.", "Above {} below {}.", "From {} below {}.", "To {}.",
    "Below {}.", "list: {}", "for each party: {}", "list of objects", "true or false", "one of {}", "whole number",
    "whole number from {}", "whole number from {} to {}", "whole number above {}", "whole number above {} below {}",
    "whole number above {} to {}", "number from {}", "number from {} to {}", "number above {}",
    "number above {} below {}", "number above {} to {}", "number from {} below {}", "number below {}",
    "whole number to {}", "number to {}", "number", "object", "party", "column", "secret", "text",
)  # fmt: skip
#: What notifications say.
OF_NOTIFICATIONS = (
    "{} succeeded", "{} was cancelled", "{} failed", "{} failed at {}", "{} failed at {}: {}", "{} failed: {}",
)  # fmt: skip
#: States and kinds of checks, which are stored in a word.
OF_CHECKS = (
    "passed", "failed", "requested", "asked", "documents", "ports", "peers", "dataset", "data", "memory", "disk",
)  # fmt: skip
#: What the audit trail calls what was done.
OF_THE_AUDIT_TRAIL = (
    "sign in", "sign out", "set password", "create", "change", "delete", "make token", "end token", "invite",
    "new link", "set up second factor", "make recovery codes", "use recovery code", "remove second factor",
    "reset second factor", "resume", "pause", "ask for checks", "register", "start", "submit", "submitted", "cancel",
    "retry", "not valid", "a link to set a password", "wrong code", "the first one", "confirm", "revoke",
)  # fmt: skip
#: Functions whose first argument is a text: Django's, and those that make errors, reasons and notes, which are stored
#: in English and translated as they are shown (controlplane.language).
KEYWORDS: dict[str, Any] = DEFAULT_KEYWORDS | {
    "gettext_lazy": None,
    "ngettext_lazy": (1, 2),
    "pgettext_lazy": ((1, "c"), 2),
    "gettext_noop": None,
    "Text": None,
    **dict.fromkeys(
        (
            "ConfigError", "DeviceConfigError", "ClusterInitError", "NetworkError", "ResourceError", "AlgorithmError",
            "PeerError",
        )
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A part of the code with a catalogue of its own."""

    name: str
    folders: tuple[str, ...]
    #: Files whose texts are stored, and translated as they are shown: all that look like texts.
    stored: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return ROOT / self.name / "locale" / LOCALE / "LC_MESSAGES" / "django.po"

    def files(self) -> Iterator[Path]:
        for folder in self.folders:
            found = sorted((ROOT / folder).rglob("*")) if folder != "templates" else sorted((ROOT / folder).glob("*"))
            for path in found:
                if path.suffix in (".py", ".html") and not {"migrations", "trial"} & set(path.parts):
                    yield path

    def texts(self) -> Catalog:
        """Return a catalogue of the texts that stand in the code, in their order, without translations."""
        found = _empty()
        for path in self.files():
            source = path.read_text()
            if path.suffix == ".html":
                # Python to read for Babel, which minds indentation, if only that
                source = "\n".join(line.strip() for line in templatize(source).splitlines())
            name = str(path.relative_to(ROOT))
            for _, message, notes, context in extract(
                "python", io.BytesIO(source.encode()), KEYWORDS, ("Translators:",)
            ):
                if message:
                    found.add(message, locations=[(name, 0)], auto_comments=notes, context=context)
        for text in self._shown_as_they_are():
            if text not in found:
                found.add(text)
        return found

    def _shown_as_they_are(self) -> Iterator[str]:
        """Yield the texts that no function marks: they are stored, or made of names."""
        for pattern in self.stored:
            for path in sorted(ROOT.glob(pattern)):
                yield from stored_texts(path.read_text())
        if self.name == "controlplane":
            yield from (*OF_UNFOLD, *OF_PARAMETERS, *OF_THE_AUDIT_TRAIL, *OF_NOTIFICATIONS, *OF_CHECKS)
        if self.name in ("controlplane", "executions"):
            yield from names_of_models(self.name)
        if self.name == "workers":
            yield from texts_of_documents()

    def catalogue(self) -> Catalog:
        """Return the catalogue as it is kept in the repository."""
        if not self.path.exists():
            return _empty()
        return read_po(io.BytesIO(self.path.read_bytes()), locale=LOCALE, domain="django")

    def write(self) -> int:
        """Bring the kept catalogue up to date and compile it. Returns how many texts lack a translation."""
        texts, kept = self.texts(), self.catalogue()
        for message in texts:
            if message.id and (known := kept.get(message.id, message.context)):
                message.string = known.string
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("wb") as file:
            write_po(file, texts, width=120, sort_output=False, include_lineno=False, omit_header=False)
        self.path.with_suffix(".mo").write_bytes(compiled(texts))
        return sum(1 for message in texts if message.id and not message.string)


def compiled(catalogue: Catalog) -> bytes:
    """Return what gettext reads as the program runs."""
    file = io.BytesIO()
    write_mo(file, catalogue)
    return file.getvalue()


def _empty() -> Catalog:
    # The same head each time, so that a file differs only where its texts do
    written = datetime(2026, 12, 1, tzinfo=timezone.utc)
    return Catalog(
        locale=LOCALE, domain="django", fuzzy=False, project="secretflow-controlplane", version="1",
        header_comment="# Chinese texts of the console; see docs/how-to.md.", creation_date=written,
        revision_date=written, last_translator="the project", language_team="the project",
    )  # fmt: skip


def stored_texts(source: str) -> Iterator[str]:
    """Yield what looks like a text in a module, with ``{}`` for what an f-string fills in, but nothing of the log."""
    tree = ast.parse(source)
    left_out = {id(part) for node in ast.walk(tree) if _is_no_text(node) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        text = ""
        if isinstance(node, ast.JoinedStr):
            left_out.update(id(part) for part in node.values)
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        letters = sum(map(str.isalpha, text.replace("{}", "")))
        if letters >= LEAST_LETTERS and TEXT.search(text) and not NO_TEXT.search(text):
            yield text


def _is_no_text(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.FunctionDef) and node.name in ("__str__", "__repr__"):
        return True
    return isinstance(node, ast.Call) and bool(NO_TEXT_CALL.match(ast.unparse(node.func)))


def names_of_models(app: str) -> Iterator[str]:
    for model in apps.get_app_config(app).get_models():
        if not issubclass(model, HistoricalChanges):
            yield str(model._meta.verbose_name)
            yield str(model._meta.verbose_name_plural)
        for field in model._meta.local_fields:
            yield str(field.verbose_name)


def texts_of_documents() -> Iterator[str]:
    """Yield the names and descriptions of all fields of documents, and of the task types."""
    models = [model_of(layer) for layer in layers()]
    yield from (label(layer) for layer in layers() if model_of(layer).__module__.startswith("workers."))
    for executor in TASK_EXECUTOR_REGISTRY.values():
        if executor.__module__.startswith("workers."):
            yield executor.title
            yield executor.description()
            yield label(executor.params_key)
            yield from executor.variants().values()
            for variant in executor.variants() or [""]:
                yield from (place.help for place in executor.places(variant))
                yield from (label(place.name) for place in executor.places(variant))
                if reason := executor.not_here(variant):
                    yield reason
        models += [executor.params_model(variant) for variant in executor.variants() or [""]]
    for model in models:
        if model.__module__.startswith("workers."):  # a package that brings its own brings its own texts, too
            yield from _texts_of(json_schema(model))


def _texts_of(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for entry in schema:
            yield from _texts_of(entry)
    if not isinstance(schema, dict):
        return
    description = schema.get("description")
    if isinstance(description, str) and not {"properties", "title"} >= {*schema} - {"description"}:
        yield description
    for key, value in schema.items():
        if key in ("properties", "$defs") and isinstance(value, dict):
            for name, entry in value.items():
                if key == "properties":
                    yield label(name)
                yield from _texts_of(entry)
        else:
            yield from _texts_of(value)


OTHER_TEMPLATES = ("templates", "templates/admin", "templates/controlplane", "templates/unfold")
PARTS = (
    Part(
        "workers",
        ("workers",),
        ("workers/contract/*.py", "workers/executors/*.py", "workers/devices/*.py", "workers/host/preflight*.py"),
    ),
    Part(
        "controlplane",
        ("controlplane", *OTHER_TEMPLATES),
        (
            "controlplane/documents/*.py",
            "controlplane/pipelines/plan.py",
            "controlplane/models/*.py",
            "controlplane/people/webhook.py",
            "controlplane/examples.py",
            "controlplane/people/second_factor.py",
            "controlplane/sign_in.py",
            "controlplane/access.py",
            "controlplane/abilities.py",
            "controlplane/roles.py",
        ),
    ),
    Part(
        "executions",
        ("executions", "templates/executions"),
        (
            "executions/coordinator/*.py",
            "executions/models/*.py",
            "executions/states.py",
            "executions/mandate.py",
            "executions/dry_run.py",
            "executions/health.py",
            "executions/diagnosis/catalogue.py",
        ),
    ),
)

if __name__ == "__main__":
    django.setup()
    for part in PARTS:
        print(f"{part.path.relative_to(ROOT)}: {part.write()} texts without a translation")
