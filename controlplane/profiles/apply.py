"""Profiles: what an operator registers for one environment, as one YAML file that is checked as a whole.

A profile is checked by doing it: its rows are written in a transaction and validated by the same ``full_clean`` as in
the admin and the API, against the state that results; the transaction is then kept or rolled back. What a profile
does not name is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, transaction
from pydantic import ValidationError as StructureError

from controlplane.documents.differences import Change, differences
from controlplane.documents.encryption import protect
from controlplane.documents.errors import named_errors
from controlplane.documents.storable import unstorable
from controlplane.models import (
    Dataset,
    Site,
    Task,
)
from controlplane.models.usage import effect_on
from controlplane.profiles.entries import (
    ClusterEntry,
    ComposedEntry,
    DatasetEntry,
    DeviceEntry,
    PipelineEntry,
    Profile,
)
from controlplane.profiles.stored import (
    ENTRIES,
    MODELS,
    REFERENCES,
    Key,
    document_key,
    is_written_by_hand,
    stored_rows,
    values_of,
)
from controlplane.profiles.yaml import ProfileInvalid, read
from workers.contract.documents import Document
from workers.contract.layers import layers
from workers.contract.problems import Problem, closest, problems_of
from workers.contract.validation import parse_document

REFERENCES |= {"task": "tasks", "pipeline": "pipelines"}


@dataclass(slots=True)
class Outcome:
    """The changes of applying a profile, each by its path in the profile."""

    added: list[str] = field(default_factory=list)
    changed: dict[str, list[Change]] = field(default_factory=dict)
    unchanged: int = 0
    #: Entries that are in the database and not in the profile.
    left_alone: list[str] = field(default_factory=list)
    #: Tasks and pipelines among them that are not valid with the profile, each with its first problem.
    broken: list[Problem] = field(default_factory=list)
    #: Number of tasks among them that were not validated.
    unchecked: int = 0

    @property
    def nothing(self) -> bool:
        return not (self.added or self.changed)


def plan(raw: bytes) -> Outcome:
    """Return what applying this profile would change. Raises ProfileInvalid with every problem."""
    return _apply(raw, why="", keep=False)


def apply(raw: bytes, why: str) -> Outcome:
    """Apply a profile, completely or not at all, and return what changed. Raises ProfileInvalid with every problem.
    ``why`` goes into the history."""
    return _apply(raw, why=why, keep=True)


def _apply(raw: bytes, *, why: str, keep: bool) -> Outcome:
    data, lines = read(raw)
    profile, problems, broken = _parse(data, lines)
    for attempt in range(3):
        try:
            with transaction.atomic():
                application = _Application(why, broken)
                outcome = application.run(profile)
                if found := [*problems, *application.problems]:
                    raise ProfileInvalid(found, lines)
                if not keep:
                    transaction.set_rollback(True)
            return outcome
        except IntegrityError:
            # another process registered something of the same name meanwhile; the next look finds it
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def _parse(data: Any, lines: dict[str, int]) -> tuple[Profile, list[Problem], set[Key]]:
    """Return the entries whose structure is right, the problems of the others, and the others' places."""
    if not isinstance(data, dict):
        right = f"should be named sections: {', '.join(Profile.model_fields)}"
        raise ProfileInvalid([Problem("", "holds no profile", right)])
    if problems := list(unstorable(data)):
        raise ProfileInvalid(problems, lines)
    # a section without a value has no entries
    data = {name: {} if value is None and name in MODELS else value for name, value in data.items()}
    try:
        return Profile.model_validate(data), [], set()
    except StructureError as error:
        broken = {_key_of(entry["loc"]) for entry in error.errors(include_url=False, include_input=False)}
        for key in broken:
            _remove(data, key)
        return Profile.model_validate(data), problems_of(error, Profile), broken


def _key_of(loc: tuple[Any, ...]) -> Key:
    """Return the entry that holds the place; the section if the section itself is wrong."""
    return tuple(str(step) for step in loc[: 3 if loc[0] == "datasets" else 2])


def _remove(data: dict[str, Any], key: Key) -> None:
    """Remove an entry from the data; the mappings inside are copied first."""
    if key[0] in data and len(key) > 1 and isinstance(data[key[0]], dict):
        data[key[0]] = dict(data[key[0]])
        _remove(data[key[0]], key[1:])
    else:
        data.pop(key[0], None)


class _Application:
    """One profile and the database, within one transaction."""

    def __init__(self, why: str, broken: set[Key]) -> None:
        self.why = why
        #: Entries that are wrong, so that entries that name them cannot be checked.
        self.broken = broken
        self.problems: list[Problem] = []
        self.outcome = Outcome()
        self.entries: dict[Key, Document] = {}
        self.rows: dict[Key, Any] = {}
        # locked: edits in the admin and other profiles wait
        self.stored = dict(stored_rows(lock=True))

    def run(self, profile: Profile) -> Outcome:
        self._write_site(profile)
        self.entries = dict(_entries(profile))
        for key, entry in self.entries.items():
            self._write(key, entry)
        # checked once all entries are stored: some are right only together with others
        for key, entry in self.entries.items():
            self._validate(key, entry)
        outcome = self.outcome
        left = [key for key, row in self.stored.items() if key not in self.rows and is_written_by_hand(row)]
        outcome.left_alone = [".".join(key) for key in left]
        if not outcome.nothing:
            others = Task.objects.filter(pk__in=[self.stored[key].pk for key in left if key[0] == "tasks"])
            effect = effect_on(others)
            outcome.unchecked = effect.unchecked
            outcome.broken = [problems[0].under(f"tasks.{task.name}") for task, problems in effect.invalid]
            outcome.broken += [problem for key in left if key[0] == "pipelines" for problem in self._first_problem(key)]
        return outcome

    def _first_problem(self, key: Key) -> list[Problem]:
        """Return the first problem of a row that the profile does not name."""
        try:
            self.stored[key].clean()
        except ValidationError as error:
            return list(_problems(key, error))[:1]
        return []

    def _write_site(self, profile: Profile) -> None:
        site = Site.objects.select_for_update(no_key=True).first() or Site()
        before = {"environment": site.environment, "security": site.security}
        if profile.environment is not None:
            if site.environment and profile.environment != site.environment:
                right = "apply that one's profile, or rename this environment first, in the admin under Environment"
                self.problems.append(Problem("environment", f"this is the environment {site.environment!r}", right))
            site.environment = profile.environment
        site.security = profile.security or site.security
        try:
            site.clean_fields()
        except ValidationError as error:
            self.problems += _problems((), error)
            return
        if changes := list(differences(before, {"environment": site.environment, "security": site.security})):
            self._save(site)
            self.outcome.changed["environment and security"] = changes

    def _write(self, key: Key, entry: Document) -> None:
        section, path = key[0], ".".join(key)
        row = self.stored.get(key)
        before = None if row is None else values_of(section, row)
        row = row or MODELS[section](name=key[-1])
        for name in set(type(entry).model_fields) - set(REFERENCES):
            setattr(row, "document" if name in layers() else name, getattr(entry, name))
        wrong = list(self._missing(key, entry))
        if layer := _layer_of(entry):
            row.document, found = protect(layer, row.document, lambda: (before or {}).get(document_key(type(entry))))
            wrong += [p.under(".".join((*key, document_key(type(entry))))) for p in found]
        try:
            row.clean_fields(exclude=REFERENCES)
        except ValidationError as error:
            wrong += _problems(key, error)
        if wrong or self._needs_broken(key, entry):
            self.broken.add(key)
            self.problems += wrong
            return
        for name, other in _references(key, entry):
            setattr(row, name, other and (self.rows.get(other) or self.stored[other]))
        self.rows[key] = row
        if before is None:
            self._save(row)
            self.outcome.added.append(path)
        elif changes := list(differences(before, values_of(section, row))):
            self._save(row)
            self.outcome.changed[path] = changes
        else:
            self.outcome.unchanged += 1

    def _save(self, row: Any) -> None:
        row._change_reason = self.why[:100]
        row.save()

    def _missing(self, key: Key, entry: Document) -> Iterator[Problem]:
        """Yield the problems of names in an entry that are neither in the profile nor in the database."""
        for name, other in _references(key, entry):
            if other and not (other in self.entries or other in self.stored or self._is_broken(other)):
                known = {k[1] for k in (*self.entries, *self.stored) if k[0] == other[0]}
                wrong = f"there is no {MODELS[other[0]]._meta.verbose_name} of this name"
                steps = key if name == "party" else (*key, name)
                yield Problem(".".join(steps), wrong, closest(other[1], known))

    def _is_broken(self, key: Key) -> bool:
        return any(key[:depth] in self.broken for depth in range(1, len(key) + 1))

    def _needs_broken(self, key: Key, entry: Document) -> bool:
        if any(map(self._is_broken, _needs(key, entry))):
            self.broken.add(key)
        return key in self.broken

    def _validate(self, key: Key, entry: Document) -> None:
        try:
            if not self._needs_broken(key, entry):
                self.rows[key].full_clean()
                return
            # its document and columns can be checked all the same
            layer = _layer_of(entry)
            if layer in layers():
                name = document_key(type(entry))
                _, problems = parse_document(layer, getattr(entry, name))
                self.problems += [p.under(".".join((*key, name))) for p in problems]
            if isinstance(entry, DatasetEntry):
                Dataset(columns=entry.columns, key_columns=entry.key_columns).clean()
        except ValidationError as error:
            self.broken.add(key)
            self.problems += _problems(key, error)


def _layer_of(entry: Document) -> str:
    """Return the layer of the entry's document; empty if it has none."""
    if isinstance(entry, DeviceEntry):
        return entry.layer
    key = document_key(type(entry))
    return key if key in layers() else ""


def _entries(profile: Profile) -> Iterator[tuple[Key, Document]]:
    for section in MODELS:
        for name, entry in getattr(profile, section).items():
            if section == "datasets":
                yield from (((section, name, table), described) for table, described in entry.items())
            else:
                yield (section, name), entry


def _references(key: Key, entry: Document) -> Iterator[tuple[str, Key | None]]:
    """Yield the model's foreign keys, each with the entry that it names; None if it names none."""
    if isinstance(entry, DatasetEntry):
        yield "party", ("parties", key[1])
    for name in set(REFERENCES) & set(type(entry).model_fields):
        named = getattr(entry, name)
        yield name, None if named is None else (REFERENCES[name], named)


def _needs(key: Key, entry: Document) -> Iterator[Key]:
    """Yield the entries that this one names, without which it cannot be checked."""
    yield from (other for _, other in _references(key, entry) if other)
    if isinstance(entry, ClusterEntry):
        parties = entry.sf_init_config.get("parties")
        yield from (("parties", str(party)) for party in (parties if isinstance(parties, list) else ()))
    elif isinstance(entry, ComposedEntry):
        further = entry.task_config.get("further_sources")
        for sources in (
            entry.task_config.get("data_sources"),
            *(further.values() if isinstance(further, dict) else ()),
        ):
            yield from (("datasets", p, str(n)) for p, n in (sources.items() if isinstance(sources, dict) else ()))
        yield from (("devices", name) for name in entry.devices.values())
    elif isinstance(entry, PipelineEntry):
        nodes = (node.get("task") for node in entry.nodes.values() if isinstance(node, dict))
        yield from (("tasks", str(task)) for task in nodes)


def _problems(key: Key, error: ValidationError) -> Iterator[Problem]:
    """Yield Django's errors as problems, with their paths in the profile."""
    for name, path, entry in named_errors(error):
        message = entry.messages[0].removeprefix(f"{path}: ")
        if name == "document":
            name = document_key(ENTRIES[key[0]])
        # the name is the entry's key
        steps = [*key, "" if name in (NON_FIELD_ERRORS, "name") else name, path]
        wrong, _, right = message.partition("; ")
        yield Problem(".".join(filter(None, steps)), wrong, right)
