"""``party.toml``: what a party host has and allows. It overrides everything that is sent to the host."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from workers.contract.alignment import CHANGED, DECLARED
from workers.contract.catalogue import TABLE, Security
from workers.contract.documents import DATASET_NAME, SFInitConfig
from workers.contract.endpoints import listening_on
from workers.contract.errors import AlgorithmError, ConfigError
from workers.contract.problems import problems_of
from workers.contract.signing import Signer, Verifier
from workers.contract.validation import Run
from workers.contract.wording import Text
from workers.host.approvals import Approvals
from workers.host.approvals import digest_of as digest_of_run
from workers.host.outputs import digest_of, is_as_made, note_of, read_note, write_note
from workers.host.party_file import DatasetEntry, PartyFile, parse
from workers.host.places import below
from workers.host.policy import Uses, allows, check_tables
from workers.host.sources import Source
from workers.host.tables import column_types, count_rows
from workers.host.workdirs import WorkDirectories
from workers.network.tls import KeyMaterial

#: Suffixes of the files of outputs: tables, and everything else.
SUFFIXES = (".csv", ".kept")


class PartyHost:
    """This host's party, read from its ``party.toml``."""

    def __init__(self, file: PartyFile, path: Path) -> None:
        directory = path.parent
        self._file, self._path = file, path
        self.name = file.party
        self.policy = file.policy
        self.limits = file.limits
        self.logs = file.logs
        self.listen_host = file.listen_host
        self.output_dir = directory / file.output_dir
        self.workdirs = WorkDirectories(self.output_dir / ".work")
        self.uses = Uses(self.output_dir / ".uses")
        #: The private key that secrets in documents are sealed for; made by `manage.py party keys`.
        self.key_path = directory / file.key
        #: The private key that signs what this party reports; made by `manage.py party keys`.
        self.signing_key_path = directory / file.signing_key
        #: The keys whose orders this host follows; None if party.toml names none.
        self.control_plane = Verifier(file.control_plane.keys) if file.control_plane else None
        self.tls: KeyMaterial | None = None
        if files := file.tls:
            self.tls = KeyMaterial(directory / files.certificate, directory / files.private_key, directory / files.ca)
        self._tables = {
            name: Source(
                name,
                directory / entry.path,
                alignment=f"{DECLARED}{entry.alignment}" if entry.alignment else None,
                types={c: kind for c, kind in entry.types.items() if c in (entry.columns or entry.types)},
                columns=None if entry.columns is None else tuple(entry.columns),
                form=entry.form,
            )
            for name, entry in file.datasets.items()
        }
        self._files = {table.path.name for table in self._tables.values()}

    @classmethod
    def load(cls, path: Path | str) -> PartyHost:
        """Return the party of a ``party.toml``. Raises ConfigError with every problem of the file."""
        path = Path(path)
        try:
            # Editors on Windows begin a file in UTF-8 with a byte order mark
            file = parse(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise ConfigError("{} does not exist; set PARTY_TOML to this host's party.toml", path) from None
        except ValidationError as error:
            found = "\n".join(f"  {p}" for p in problems_of(error, PartyFile))
            raise ConfigError("{} is wrong:\n{}", path, found) from None
        except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
            raise ConfigError("{} cannot be read: {}", path, str(error)[:300]) from None
        host = cls(file, path.resolve())
        if not re.fullmatch(r"[\w./+@=-]+", str(host.output_dir)):
            raise ConfigError(
                "{} is wrong:\n  output_dir: lies at a path with blanks or other characters that SecretFlow's PSI "
                "cannot handle, as it hands the path to a shell; use letters, digits and . _ - / alone",
                path,
            )
        return host

    def reload(self) -> PartyHost:
        """Return the host as party.toml says now. Raises ConfigError."""
        try:
            host = PartyHost.load(self._path)
        except ConfigError as error:
            why = Text(": {}", str(error), optional=True)
            raise ConfigError("party.toml of {} cannot be used; see its worker's log{}", self.name, why) from None
        if host.name != self.name:
            raise ConfigError(
                "party.toml of {} now names another party; put its name right, or start its worker again", self.name
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
        """Return the directory in which events are kept until the control plane has applied them."""
        return self.output_dir / ".journal"

    @property
    def logs_dir(self) -> Path:
        """Return the directory of the logs of runs."""
        return self.output_dir / ".logs"

    @property
    def sends_logs(self) -> str:
        """Return what the control plane gets of the logs of runs: ``off``, ``failure`` or the lowest level."""
        return self.logs.send or ("info" if self.policy.security == "trial" else "off")

    @property
    def taken_dir(self) -> Path:
        """Return the directory of the notes of which orders this host has taken."""
        return self.output_dir / ".taken"

    @cached_property
    def signer(self) -> Signer:
        """Return this party's key for what it reports. Raises ConfigError, which names no path."""
        try:
            return Signer.load(self.signing_key_path)
        except FileNotFoundError:
            raise ConfigError(
                "{} has no key to sign its reports with; run `manage.py party keys` on its host, and put the signing "
                "key that it prints on the party's page",
                self.name,
            ) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError("the signing_key of party.toml cannot be used: {}", Text(str(reason))) from None

    @cached_property
    def approvals(self) -> Approvals | None:
        """Return the approvals of people on this host; None if the policy asks for none. Raises ConfigError."""
        return Approvals(self.approvals_dir, self.signer) if self.policy.approve == "ask" else None

    @property
    def approvals_dir(self) -> Path:
        """Return the directory of what people on this host are asked, and decided."""
        return self.output_dir / ".approvals"

    @property
    def orders(self) -> Verifier:
        """Return the keys whose orders this host follows. Raises ConfigError if party.toml names none."""
        if self.control_plane is None:
            raise ConfigError(
                "party.toml does not say whose orders this host follows; add a table [control_plane] with "
                'keys = ["ed25519:..."], which `manage.py signing_key` prints on the control plane'
            )
        return self.control_plane

    def localized(self, documents: Mapping[str, Any], run: Run) -> dict[str, Any]:
        """Return the valid documents of a run with this host's own listening address, if it differs from the registered
        one."""
        if not self.listen_host:
            return dict(documents)
        return listening_on(self.listen_host, self.name, documents, run.cluster, run.devices)

    def check(self, run: Run) -> None:
        """Raise ConfigError if this party's policy does not allow the run, or this host cannot do it."""
        if not allows(self.policy.task_types, run.task.task_type):
            raise ConfigError("{}'s policy does not allow task type {}", self.name, run.task.task_type)
        for peer in run.cluster.parties:
            if peer != self.name and not allows(self.policy.peers, peer):
                raise ConfigError("{}'s policy does not allow computing with {}", self.name, peer)
        mine = {name: self.origins(name) for _, party, name in run.task.reads() if party == self.name}
        check_tables(self.name, run, self.entries, mine)
        self.tls_for(run.cluster)

    def origins(self, name: str) -> list[str]:
        """Return the tables of party.toml that an output was made of; a table of party.toml is its own."""
        if name in self._tables:
            return [name]
        made_of = next((read_note(path).get("made_of") for path in self._outputs_of(name) if path.is_file()), None)
        return [str(one) for one in made_of] if isinstance(made_of, list) else []

    def count_uses(self, run: Run, execution: str) -> None:
        """Count this execution, with these documents, as one that reads the tables of party.toml that it names. Raises
        ConfigError if one of them was read by as many others as it may be."""
        # With others it is another use: the control plane chooses the execution's name
        execution = f"{execution}:{digest_of_run(self.name, run)[:32]}"
        for name in sorted({name for _, party, name in run.task.reads() if party == self.name}):
            most = self.entries[name].uses if name in self.entries else None
            if most is not None and not self.uses.take(name, execution, most):
                raise ConfigError(
                    "dataset {} may be read by {:,} executions, and has been; raise uses of this dataset in "
                    "party.toml on {}'s host",
                    name,
                    most,
                    self.name,
                )

    def tls_for(self, cluster: SFInitConfig) -> KeyMaterial | None:
        """Return this party's TLS files, checked, if the documents ask for TLS, otherwise None. Raises ConfigError."""
        if not cluster.uses_tls:
            return None
        if self.tls is None:
            raise ConfigError(
                "the documents ask for TLS, and party.toml of {} has no [tls]; name its certificate, private_key and "
                "ca there",
                self.name,
            )
        self.tls.check(self.name)
        return self.tls

    def dataset(self, name: str) -> Source:
        """Return what this party has under that name. A registered dataset comes before an output. Raises
        ConfigError."""
        if name in self._tables:
            return self._tables[name]
        for path, suffix in zip(self._outputs_of(name), SUFFIXES, strict=True):
            if path.is_file() and not path.is_symlink():
                note = read_note(path)
                if suffix != SUFFIXES[0]:
                    return Source(name, path, str(note.get("kind") or "unknown"))
                if not is_as_made(path, note):
                    # The file may have other rows by now, or another order
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
        # The message names no other dataset: those are the party's own affair
        raise ConfigError("{} has no dataset {!r}; register it in party.toml on {}'s host", self.name, name, self.name)

    def describe(self, table: Source) -> dict[str, Any]:
        """Return ``columns`` (name to type) and ``rows`` of a readable table. Raises ConfigError."""
        columns, rows = column_types(table.path, table.name), count_rows(table.path, table.name)
        if not rows and not set(columns) <= {*table.types, *table.file_types}:
            raise ConfigError("dataset {} has no rows, so the types of its columns cannot be told; fill it", table.name)
        return {"columns": columns, "rows": rows}

    def published(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``describe`` found, as far as the policy lets the control plane know it."""
        return {what: value for what, value in table.items() if self.publishes(what)}

    def publishes(self, what: str) -> bool:
        """Return whether the policy lets the control plane know a table's ``columns`` or ``rows``."""
        return self.policy.publish == "counts" or (self.policy.publish == "columns" and what == "columns")

    @property
    def entries(self) -> Mapping[str, DatasetEntry]:
        """Return what party.toml says of its tables, by name."""
        return self._file.datasets

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
        made_of: Collection[str] = (),
    ) -> str | None:
        """Make ``source`` (on the same file system) the output ``name``, replacing an older one at once.

        Returns the alignment that it has from now on. ``alignment``: of a table's rows, None where it is not known.
        ``types``: of a table's columns. ``made_of``: the tables of party.toml that are in it.
        """
        if source.is_symlink():
            raise AlgorithmError("the output is a symbolic link, which is not kept")
        suffix, other = SUFFIXES if kind == TABLE else reversed(SUFFIXES)
        path, digest = self._output(name, suffix), digest_of(source)
        if alignment and alignment.startswith(CHANGED):  # the source has changed; this file is as it was made
            alignment = None
        # The note goes first and comes last: a crash in between leaves an output of unknown alignment,
        # never one with a wrong alignment.
        note_of(path).unlink(missing_ok=True)
        source.chmod(0o600)
        self._output(name, other).unlink(missing_ok=True)
        os.replace(source, path)
        known = {"alignment": alignment, "types": dict(types or {}), "made_of": sorted(made_of)}
        note = {"execution": execution, "kind": kind, **known}
        write_note(path, digest, note)
        return alignment

    @property
    def is_of_another_user(self) -> bool:
        """Return whether its files are another user's than this process's: its worker could not take locks made
        here."""
        return self.output_dir.is_dir() and self.output_dir.stat().st_uid != os.geteuid()

    def knows(self, name: str) -> bool:
        """Return whether this host has a table, a table's file or an output of this name, which may be any text: its
        gate keeps them."""
        if name in self._tables or name in self._files:
            return True
        # Looked up one by one: every event passes the gate, and a host may have kept many thousands of outputs
        is_a_name = 0 < len(name) < 256 and os.sep not in name
        return is_a_name and any(os.path.lexists(f"{self.output_dir}/{name}{suffix}") for suffix in SUFFIXES)

    def places(self) -> list[Path]:
        """Return the directories in which this host's files are: its gate keeps them."""
        tls = self.tls.files if self.tls else ()
        files = [
            self._path,
            self.key_path,
            self.signing_key_path,
            *tls,
            *(table.path for table in self._tables.values()),
        ]
        tables = [table.path for table in self._tables.values() if table.path.is_dir()]
        return [self.output_dir, *dict.fromkeys([*(path.parent for path in files), *tables])]

    def outputs(self) -> list[str]:
        """Return the names of the outputs that are kept on this host."""
        found = self.output_dir.iterdir() if self.output_dir.is_dir() else ()
        return [p.stem for p in found if p.suffix in SUFFIXES]

    def prepare_directories(self) -> None:
        """Create the private directories. Raises ConfigError if that is not possible."""
        try:
            for path in (self.output_dir, self.workdirs.root, self.journal_dir, self.taken_dir, self.logs_dir):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except (OSError, ValueError) as error:  # ValueError: the path has a NUL
            reason = error.strerror if isinstance(error, OSError) else "it is no path"
            raise ConfigError("output_dir of party.toml cannot be written: {}", Text(str(reason))) from None

    @property
    def security(self) -> Security:
        """Return the tier of this party's policy, whatever the control plane says."""
        return self.policy.security

    def address(self, party: str) -> None:
        """Return None: on a party host the documents say where the parties are."""

    def datasets(self, party: str) -> Mapping[str, None] | None:
        """Return the party's own datasets by name; None for other parties."""
        return None if party != self.name else dict.fromkeys([*self._tables, *self.outputs()])

    def kept_names(self, party: str) -> set[str]:
        """Return the names that an output may not take: those of party.toml."""
        return set(self._tables) if party == self.name else set()

    def kind(self, party: str, name: str) -> str | None:
        """Return the kind of what this party has under the name; None for other parties."""
        try:
            return self.dataset(name).kind if party == self.name else None
        except ConfigError:
            return None

    def _outputs_of(self, name: str) -> list[Path]:
        """Return the paths that an output of this name may have."""
        return [self._output(name, suffix) for suffix in SUFFIXES]

    def _output(self, name: str, suffix: str) -> Path:
        if not re.fullmatch(DATASET_NAME, name):
            raise ConfigError("an output's name has a character that is not allowed")
        return below(self.output_dir, f"{name}{suffix}")
