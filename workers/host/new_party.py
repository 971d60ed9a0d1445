"""Writes a party.toml for a host that has none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from workers.contract.errors import ConfigError
from workers.contract.problems import problems_of
from workers.contract.wording import Text
from workers.host.party_file import PartyFile, parse


@dataclass(slots=True)
class Answers:
    """What somebody said of a party; the rest of a new file is as strict as it can be."""

    party: str
    peers: Sequence[str]
    task_types: Sequence[str]
    publish: str = "columns"
    approve: str = "never"
    #: By name, the file of each table.
    datasets: Mapping[str, str] = field(default_factory=dict)
    #: Public signing keys of the control plane.
    control_plane: Sequence[str] = ()


def write_party(path: Path, answers: Answers) -> None:
    """Write a file that only its owner can read. Raises ConfigError, also if there is a file already: it is not
    touched."""
    lines = [f"party = {_toml(answers.party)}", "", "[policy]", f"task_types = {_toml(answers.task_types)}"]
    lines += [f"{name} = {_toml(getattr(answers, name))}" for name in ("peers", "publish", "approve")]
    if answers.control_plane:
        lines += ["", "[control_plane]", f"keys = {_toml(answers.control_plane)}"]
    for name, file in answers.datasets.items():
        lines += ["", f"[datasets.{_toml(name)}]", f"path = {_toml(file)}"]
    content = "\n".join(lines) + "\n"
    _check(content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
        with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as written:
            written.write(content)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise ConfigError("{} cannot be written: {}", path, Text(str(error.strerror))) from None


def check_new(path: Path) -> None:
    """Raise ConfigError if there is a file already: before somebody answers questions in vain."""
    if path.exists():
        raise _exists(path)


def _exists(path: Path) -> ConfigError:
    return ConfigError("{} exists already; edit it, or set PARTY_TOML to a path of a new file", path)


def _check(content: str) -> None:
    try:
        parse(content)
    except ValidationError as error:
        raise ConfigError("{}", "\n".join(map(str, problems_of(error, PartyFile)))) from None
    except ValueError:
        raise ConfigError("an answer has a character that party.toml cannot have; leave it out") from None


def _toml(value: object) -> str:
    """Return a text or a list of texts as TOML, whose quoted texts are those of JSON."""
    return json.dumps(value if isinstance(value, str) else list(value), ensure_ascii=False)  # type: ignore[call-overload]
