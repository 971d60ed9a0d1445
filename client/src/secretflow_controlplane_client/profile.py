"""Registers what a profile names, over the REST API: a second time changes nothing.

What an entry does not name stays as it is, and so do entries that the profile does not name. Each entry is checked and
written alone, other than by ``manage.py profile apply``, which does all or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from secretflow_controlplane_client.errors import INPUT, ControlPlaneError
from secretflow_controlplane_client.flows import page
from secretflow_controlplane_client.profile_file import read_profile
from secretflow_controlplane_client.protocol import Call, Flow, Retry, may_pass, send, write


class _Section(NamedTuple):
    """Where the entries of a section are registered, and under which key they have their document."""

    path: str
    document: str = ""


#: In an order in which each needs only those before it.
SECTIONS = {
    "parties": _Section("parties/"),
    "datasets": _Section("datasets/"),
    "clusters": _Section("cluster-configs/", "sf_init_config"),
    "spus": _Section("spu-configs/", "spu_config"),
    "heus": _Section("heu-configs/", "heu_config"),
    "devices": _Section("device-configs/"),
    "tasks": _Section("tasks/", "task_config"),
    "pipelines": _Section("pipelines/"),
    "schedules": _Section("schedules/"),
}
_SITE = ("environment", "security")


@dataclass(slots=True)
class Applied:
    """What became of the entries of a profile, each by its path in it."""

    created: list[str] = field(default_factory=list)
    #: With the names of the fields that changed.
    changed: dict[str, list[str]] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    #: With the reason; nothing was written of these.
    refused: dict[str, ControlPlaneError] = field(default_factory=dict)


class _Entry(NamedTuple):
    section: str
    path: str
    #: By which it is found among those that are registered.
    key: tuple[str, ...]
    body: dict[str, Any]


def content_of(profile: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    """Return the content of a profile that is given itself, or as a file's path. Raises ControlPlaneError."""
    return profile if isinstance(profile, Mapping) else read_profile(Path(profile))


def applied(profile: Mapping[str, Any], retry: Retry) -> Flow[Applied]:
    """Register what a profile names. Raises ControlPlaneError if it cannot be read, is of another environment, or the
    control plane does not answer; entries that are refused are in what is returned."""
    found = Applied()
    entries = list(_entries(profile))
    yield from _set_site(profile, found, retry)
    for section, place in SECTIONS.items():
        own = [entry for entry in entries if entry.section == section]
        registered = (yield from _registered(section, place.path, retry)) if own else {}
        for entry in own:
            try:
                yield from _write(place.path, entry, registered.get(entry.key), found, retry)
            except ControlPlaneError as error:
                if error.status in (None, 401) or may_pass(error):
                    raise
                found.refused[entry.path] = error
    return found


def _entries(profile: Mapping[str, Any]) -> Iterator[_Entry]:
    if unknown := [name for name in profile if name not in SECTIONS and name not in _SITE]:
        known = ", ".join((*_SITE, *SECTIONS))
        raise ControlPlaneError(INPUT, f"{unknown[0]} is no section of a profile; there are {known}.")
    for section in SECTIONS:
        for name, given in _mapping(section, profile.get(section)).items():
            path = f"{section}.{name}"
            if section == "datasets":
                for table, described in _mapping(path, given).items():
                    body = {"party": name, "name": table, **_mapping(f"{path}.{table}", described)}
                    yield _Entry(section, f"{path}.{table}", (name, table), body)
            else:
                body = {"name": name, **_mapping(path, given)}
                own = SECTIONS[section].document
                if own in body:
                    body["document"] = body.pop(own)
                yield _Entry(section, path, (name,), body)


def _mapping(path: str, given: Any) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ControlPlaneError(INPUT, f"{path} should be a mapping of names, not {type(given).__name__}.")
    return given


def _set_site(profile: Mapping[str, Any], found: Applied, retry: Retry) -> Flow[None]:
    """Name the environment and its tier. Raises ControlPlaneError if the profile is that of another environment."""
    wanted = {name: profile[name] for name in _SITE if profile.get(name) is not None}
    if not wanted:
        return
    path = "environment and security"
    answer = yield from send(Call("GET", "site/"), retry)
    site = answer.json()
    here, meant = site.get("environment"), wanted.get("environment")
    if here and meant and here != meant:
        raise ControlPlaneError(INPUT, f"The profile is for the environment {meant!r}; this is {here!r}.")
    if changes := {name: value for name, value in wanted.items() if site.get(name) != value}:
        try:
            yield from send(write("PATCH", "site/", changes, etag=_tag(site)), retry)
        except ControlPlaneError as error:
            if error.status in (None, 401) or may_pass(error):
                raise
            found.refused[path] = error
        else:
            found.changed[path] = list(changes)
    else:
        found.unchanged.append(path)


def _registered(section: str, path: str, retry: Retry) -> Flow[dict[tuple[str, ...], Any]]:
    """Return what is registered of a section, by name; datasets by party and name."""
    rows, cursor = yield from page(path, (), "", retry)
    while cursor:
        more, cursor = yield from page(path, (), cursor, retry)
        rows += more
    return {(row["party"], row["name"]) if section == "datasets" else (row["name"],): row for row in rows}


def _write(path: str, entry: _Entry, row: Any, found: Applied, retry: Retry) -> Flow[None]:
    """Register an entry, or change what differs in the row that is registered."""
    if row is None:
        yield from send(write("POST", path, entry.body), retry)
        found.created.append(entry.path)
        return
    changes = {name: value for name, value in entry.body.items() if name not in row or row[name] != value}
    if changes:
        answer = yield from send(write("PATCH", f"{path}{row['id']}/", changes, etag=_tag(row)), retry)
        # A secret is shown masked, so that it looks different; the version tells
        if answer.json().get("version") != row["version"]:
            found.changed[entry.path] = list(changes)
            return
    found.unchanged.append(entry.path)


def _tag(row: Mapping[str, Any]) -> str:
    return f'"{row["version"]}"'
