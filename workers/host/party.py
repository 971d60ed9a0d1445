"""``party.toml``: what a party host has and allows. It has the last word over anything that is sent to it."""

from __future__ import annotations

import copy
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from workers.contract.alignment import CHANGED, DECLARED
from workers.contract.catalogue import TABLE, Security
from workers.contract.documents import DATASET_NAME, SFInitConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import problems_of
from workers.contract.validation import Run
from workers.host.outputs import digest_of, is_as_made, note_of, read_note, write_note
from workers.host.party_file import PartyFile
from workers.host.sources import Source
from workers.host.tables import column_types, count_rows
from workers.host.workdirs import WorkDirectories
from workers.network.tls import KeyMaterial

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Of the files of outputs: those of tables, those of all else.
SUFFIXES = (".csv", ".kept")


class PartyHost:
    """This host's party, read from its ``party.toml``."""

    def __init__(self, file: PartyFile, path: Path) -> None:
        directory = path.parent
        self._file, self._path = file, path
        self.name = file.party
        self.policy = file.policy
        self.listen_host = file.listen_host
        self.output_dir = directory / file.output_dir
        self.workdirs = WorkDirectories(self.output_dir / ".work")
        #: The private key that secrets in documents are sealed for; made by `manage.py party_key`.
        self.key_path = directory / file.key
        self.tls: KeyMaterial | None = None
        if files := file.tls:
            self.tls = KeyMaterial(directory / files.certificate, directory / files.private_key, directory / files.ca)
        self._tables = {
            name: Source(
                name,
                directory / entry.path,
                alignment=f"{DECLARED}{entry.alignment}" if entry.alignment else None,
                types=entry.types,
                encoding=entry.encoding,
                delimiter=entry.delimiter,
            )
            for name, entry in file.datasets.items()
        }

    @classmethod
    def load(cls, path: Path | str) -> PartyHost:
        """Raise ConfigError with every problem of the file."""
        path = Path(path)
        try:
            # Editors on Windows put a mark before UTF-8
            content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise ConfigError(f"{path} does not exist; set PARTY_TOML to this host's party.toml") from None
        except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
            raise ConfigError(f"{path} cannot be read: {str(error)[:300]}") from None
        try:
            file = PartyFile.model_validate(content)
        except ValidationError as error:
            found = "\n".join(f"  {p}" for p in problems_of(error, PartyFile))
            raise ConfigError(f"{path} is wrong:\n{found}") from None
        host = cls(file, path.resolve())
        if not re.fullmatch(r"[\w./+@=-]+", str(host.output_dir)):
            raise ConfigError(
                f"{path} is wrong:\n  output_dir: lies at a path with blanks or other characters that SecretFlow's PSI "
                "cannot handle, as it hands the path to a shell; use letters, digits and . _ - / alone"
            )
        return host

    def reload(self) -> PartyHost:
        """Return the host as party.toml says now. Raises ConfigError, which leaves the party and so names no path."""
        try:
            host = PartyHost.load(self._path)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(self._path), f"party.toml of {self.name}")) from None
        if host.name != self.name:
            raise ConfigError(
                f"party.toml of {self.name} now names another party; put its name right, or start its worker again"
            )
        return host

    def as_message(self) -> dict[str, str]:
        """Return a message for a process of the same host; see :meth:`from_message`."""
        return {"file": self._file.model_dump_json(), "path": str(self._path)}

    @classmethod
    def from_message(cls, message: Mapping[str, str]) -> PartyHost:
        return cls(PartyFile.model_validate_json(message["file"]), Path(message["path"]))

    @property
    def journal_dir(self) -> Path:
        """Where events are kept until the control plane has applied them."""
        return self.output_dir / ".journal"

    def localized(self, documents: Mapping[str, Any]) -> dict[str, Any]:
        """Valid documents with this host's own listening address where it differs from the registered one."""
        if not self.listen_host:
            return dict(documents)
        local = copy.deepcopy(dict(documents))
        for endpoint, key in (
            (local["sf_init_config"]["cluster"][self.name], "listen_addr"),
            *((node, "listen_address") for node in local["spu_config"].get("nodes", []) if node["party"] == self.name),
        ):
            endpoint[key] = f"{self.listen_host}:{endpoint['address'].rpartition(':')[2]}"
        return local

    def check(self, run: Run) -> None:
        """Refuse what this party's policy does not allow, or this host cannot do. Raises ConfigError."""
        if "*" not in self.policy.task_types and run.task.task_type not in self.policy.task_types:
            raise ConfigError(f"{self.name}'s policy does not allow task type {run.task.task_type}")
        for peer in run.cluster.parties:
            if peer != self.name and "*" not in self.policy.peers and peer not in self.policy.peers:
                raise ConfigError(f"{self.name}'s policy does not allow computing with {peer}")
        self.tls_for(run.cluster)

    def tls_for(self, cluster: SFInitConfig) -> KeyMaterial | None:
        """Return this party's files, checked, where the documents ask for TLS; None where they do not. Raises
        ConfigError."""
        if not cluster.uses_tls:
            return None
        if self.tls is None:
            raise ConfigError(
                f"the documents ask for TLS, and party.toml of {self.name} has no [tls]; "
                "name its certificate, private_key and ca there"
            )
        self.tls.check(self.name)
        return self.tls

    def dataset(self, name: str) -> Source:
        """Return what this party has under that name. A registered dataset comes before an output. Raises
        ConfigError."""
        if name in self._tables:
            return self._tables[name]
        for suffix in SUFFIXES:
            path = self._output(name, suffix)
            if path.is_file():
                note = read_note(path)
                if suffix != SUFFIXES[0]:
                    return Source(name, path, str(note.get("kind") or "unknown"))
                if not is_as_made(path, note):
                    # It may have other rows, or another order
                    had_one = isinstance(note.get("alignment"), str)
                    note = {"alignment": f"{CHANGED}{note.get('execution')}"[:200]} if had_one else {}
                alignment, types = note.get("alignment"), note.get("types")
                return Source(
                    name,
                    path,
                    TABLE,
                    alignment if isinstance(alignment, str) else None,
                    types if isinstance(types, dict) else {},
                )
        # Names no other dataset: what else a party has is its own affair
        raise ConfigError(f"{self.name} has no dataset {name!r}; register it in party.toml on {self.name}'s host")

    def describe(self, table: Source) -> dict[str, Any]:
        """Return ``columns``, name to type, and ``rows`` of a readable table. Raises ConfigError."""
        columns, rows = column_types(table.path, table.name), count_rows(table.path, table.name)
        if not rows and not set(columns) <= set(table.types):
            raise ConfigError(f"dataset {table.name} has no rows, so the types of its columns cannot be told; fill it")
        return {"columns": columns, "rows": rows}

    def published(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``describe`` found, as far as the control plane may be told it."""
        return {what: value for what, value in table.items() if self.publishes(what)}

    def publishes(self, what: str) -> bool:
        """Return whether the control plane may be told this of a table: ``columns`` or ``rows``."""
        return self.policy.publish == "counts" or (self.policy.publish == "columns" and what == "columns")

    def registered(self) -> dict[str, Source]:
        """Return the tables that party.toml registers, by name."""
        return dict(self._tables)

    def keep_output(
        self,
        name: str,
        source: Path,
        execution: str,
        kind: str = TABLE,
        alignment: str | None = None,
        types: Mapping[str, str] | None = None,
    ) -> str | None:
        """Make ``source`` (on the same file system) the output ``name``, replacing an older one at once.

        Returns the alignment that it has from now on. ``alignment``: of a table's rows, None where it is not known.
        ``types``: of a table's columns.
        """
        suffix, other = SUFFIXES if kind == TABLE else reversed(SUFFIXES)
        path, digest = self._output(name, suffix), digest_of(source)
        if alignment and alignment.startswith(CHANGED):  # what it was made of; this is as it was made
            alignment = None
        # The note goes first and comes last: a crash in between leaves an output of unknown alignment,
        # never one with a wrong alignment.
        note_of(path).unlink(missing_ok=True)
        source.chmod(0o600)
        self._output(name, other).unlink(missing_ok=True)
        os.replace(source, path)
        note = {"execution": execution, "kind": kind, "alignment": alignment, "types": dict(types or {})}
        write_note(path, digest, note)
        return alignment

    def outputs(self) -> list[str]:
        """Return names of the outputs kept on this host."""
        found = self.output_dir.iterdir() if self.output_dir.is_dir() else ()
        return [p.stem for p in found if p.suffix in SUFFIXES]

    def prepare_directories(self) -> None:
        """Create the private directories. Raises ConfigError where that is not allowed."""
        try:
            for path in (self.output_dir, self.workdirs.root, self.journal_dir):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = error.strerror if isinstance(error, OSError) else "it is no path"
            raise ConfigError(f"output_dir of party.toml cannot be written: {reason}") from None

    @property
    def security(self) -> Security:
        """The tier of this party's policy, whatever the control plane says."""
        return self.policy.security

    def address(self, party: str) -> None:
        """Return None, as a catalogue for validation: the documents say where parties are."""

    def datasets(self, party: str) -> Mapping[str, None] | None:
        """Return, as a catalogue for validation, its own datasets by name, nothing of other parties."""
        return None if party != self.name else dict.fromkeys([*self._tables, *self.outputs()])

    def kept_names(self, party: str) -> set[str]:
        """Return names that an output may not take: those of party.toml."""
        return set(self._tables) if party == self.name else set()

    def kind(self, party: str, name: str) -> str | None:
        """Return, as a catalogue for validation, the kind of what is there now."""
        try:
            return self.dataset(name).kind if party == self.name else None
        except ConfigError:
            return None

    def _output(self, name: str, suffix: str) -> Path:
        if not re.fullmatch(DATASET_NAME, name):
            raise ConfigError("an output's name has a character that is not allowed")
        return self.output_dir / f"{name}{suffix}"
