"""The schema of ``party.toml``."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from workers.contract.catalogue import Security
from workers.contract.documents import ColumnName, DatasetName, Document, PartyName
from workers.contract.logs import LINES_OF_A_RUN
from workers.contract.signing import check_signing_key
from workers.host.table_files import FileForm, Format

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PeerName = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z][a-z0-9_-]{0,31})$")]
#: Paths in TOML are text.
FilePath = Annotated[Path, Field(strict=False)]


class DatasetEntry(Document):
    path: FilePath = Field(
        description="File of the table: CSV, plain or compressed, Parquet, ORC or Feather. A directory, or a pattern "
        "such as sales/*.parquet, is one table of several files. Relative to party.toml."
    )
    format: Format | None = Field(
        default=None, description="Format of the files if the ends of their names do not say it."
    )
    columns: list[ColumnName] | None = Field(
        default=None, min_length=1, description="Columns that tasks may use; for them the table has no others."
    )
    task_types: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Task types that may read it, or what was made of it; those of [policy] if left out.",
    )
    peers: list[PeerName] | None = Field(
        default=None,
        min_length=1,
        description="Parties with whom it, or what was made of it, may be used; those of [policy] if left out.",
    )
    uses: int | None = Field(
        default=None,
        ge=1,
        description="How many executions may read it. Retries of one count once, and what was made of it does not.",
    )
    expires: date | None = Field(
        default=None, description="The last day on which it, or what was made of it, may be used."
    )
    alignment: DatasetName | None = Field(
        default=None,
        description="A name for the order of its rows, where you know that tables of other parties have the same rows "
        "in the same order: those tables declare the same name. Tasks that need rows to line up then take it without "
        "a PSI, and their results say so.",
    )
    types: dict[ColumnName, Literal["str", "int", "float", "bool"]] = Field(
        default_factory=dict,
        description="Types of columns that should not be guessed from the values, such as str for a code of digits.",
    )
    encoding: str | None = Field(
        default=None,
        max_length=40,
        description="Encoding of the file if it is not UTF-8, such as gb18030 (GBK), utf-16, windows-1252 or latin-1.",
    )
    delimiter: str | None = Field(
        default=None,
        pattern=r"^[\x01-\x09\x0b\x0c\x0e-!#-/:-@\[-`{-~]$",
        description='Separator of the fields if it is not a comma, such as ";", "|" or "\\t" for a tab.',
    )

    header: list[ColumnName] | None = Field(
        default=None, min_length=1, description="Names of the columns, for CSV without a header line."
    )
    quote: str | None = Field(
        default=None, pattern=r"^[!-/:-@\[-`{-~]$", description="Quotation mark of CSV if it is not a double one."
    )
    decimal: str | None = Field(
        default=None,
        pattern=r"^[,;']$",
        description='Decimal mark of the columns that types declares float or int, if it is not a point, such as ",".',
    )
    nulls: list[str] | None = Field(
        default=None, min_length=1, max_length=20, description='Texts that stand for an empty cell, such as "\\N".'
    )
    rename: dict[ColumnName, ColumnName] = Field(
        default_factory=dict, description="New names of columns, by those in the files. All else goes by the new names."
    )
    where: dict[ColumnName, list[str]] = Field(
        default_factory=dict, description='Only rows with one of these texts, by column, such as year = ["2024"].'
    )
    limit: int | None = Field(default=None, ge=1, description="Only so many rows, the first ones.")

    @property
    def form(self) -> FileForm:
        """Return how the files are read."""
        return FileForm(
            format=self.format,
            encoding=self.encoding,
            delimiter=self.delimiter,
            header=None if self.header is None else tuple(self.header),
            quote=self.quote,
            decimal=self.decimal,
            nulls=tuple(self.nulls or ()),
            rename=self.rename,
            where={column: tuple(texts) for column, texts in self.where.items()},
            limit=self.limit,
        )

    @model_validator(mode="after")
    def check_form(self) -> DatasetEntry:
        if len(set(self.rename.values())) < len(self.rename):
            raise ValueError("rename gives two columns the same name; give each a name of its own")
        if self.decimal and not {"int", "float"} & set(self.types.values()):
            raise ValueError(
                'decimal needs types, which says the columns of numbers, such as types = {price = "float"}'
            )
        return self

    @field_validator("encoding")
    @classmethod
    def check_encoding(cls, value: str | None) -> str | None:
        try:
            "".encode(value or "utf-8")
        except LookupError:
            raise ValueError(
                "is no encoding that Python knows; use utf-8, gb18030, utf-16, windows-1252 or latin-1"
            ) from None
        return value


class Policy(Document):
    task_types: list[str] = Field(description='Task types this party takes part in; ["*"] for all.')
    peers: list[PeerName] = Field(description='Parties it computes with; ["*"] for all.')
    publish: Literal["nothing", "columns", "counts"] = Field(
        default="columns",
        description="What publish_datasets and the pre-flight checks report of this party's tables: columns and types, "
        "or row counts, too. With nothing, no error, event or result names a dataset, a column or a file that the "
        "documents of the run do not name themselves. Paths are never told.",
    )
    security: Security = Field(
        default="production", description="trial lowers the security checks: for test data only."
    )
    approve: Literal["never", "ask"] = Field(
        default="never", description="ask: each execution waits until a person at this party approves it."
    )
    min_intersection_rows: int = Field(
        default=0,
        ge=0,
        le=10**9,
        description="Fewest rows that parties may find to have in common: a smaller intersection is kept by no party, "
        "and its size is told to nobody.",
    )
    min_group_rows: int = Field(
        default=0,
        ge=0,
        le=10**9,
        description="Fewest rows of which figures may be told, of a whole table or of a group in it.",
    )


class Logs(Document):
    """What the control plane gets of the logs of runs. All of each log stays on this host."""

    send: Literal["off", "failure", "debug", "info", "warning", "error"] | None = Field(
        default=None,
        description="off: nothing; failure: the last lines of a run that failed; a level: lines of at least this level "
        "while the run goes on, and its last lines if it fails. If left out: off, and in the trial tier info.",
    )
    lines: int = Field(default=200, ge=1, le=LINES_OF_A_RUN, description="How many lines of a run are sent at most.")
    text: Literal["known", "all"] = Field(
        default="known",
        description="known: texts of this software, with the names that [policy] lets out, and of other software only "
        "level and place; all: every text, which may quote rows. all is for test data only.",
    )
    keep_days: int = Field(default=30, ge=1, description="How many days the whole log of a run is kept on this host.")


class Limits(Document):
    """What one run may take of this host. It ends a run that takes more."""

    max_memory_mb: int | None = Field(
        default=None, ge=1, description="Memory of a run's process, in MiB; SecretFlow itself takes some 400 of them."
    )
    max_run_seconds: int | None = Field(default=None, ge=1, description="How long a run may take, in seconds.")
    max_disk_mb: int | None = Field(
        default=None, ge=1, description="Size of a run's temporary files and outputs, in MiB."
    )


def _signing_key(text: str) -> str:
    try:
        check_signing_key(text)
    except ValueError:
        raise ValueError(
            "is no public signing key; enter what `manage.py signing_key` prints on the control plane, ed25519:..."
        ) from None
    return text


class ControlPlane(Document):
    keys: list[Annotated[str, AfterValidator(_signing_key)]] = Field(
        min_length=1,
        max_length=10,
        description="Public keys of the control plane whose orders this host follows, as `manage.py signing_key` "
        "prints them there; two while one replaces the other.",
    )


class TLSFiles(Document):
    """PEM files for TLS between the parties. Relative to party.toml."""

    certificate: FilePath = Field(description="This party's certificate, which names the party.")
    private_key: FilePath = Field(description="Its private key, readable by this user alone.")
    ca: FilePath = Field(description="The CA that signed the certificates of all parties.")


class PartyFile(Document):
    """The schema of party.toml."""

    party: PartyName = Field(description="This party's name, as registered on the control plane.")
    output_dir: FilePath = Field(
        default=Path("outputs"), description="Directory of the outputs. Relative to party.toml."
    )
    listen_host: str | None = Field(
        default=None,
        max_length=253,
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)$",
        description="Address to listen on where it differs from the registered one, such as 0.0.0.0 behind NAT.",
    )
    key: FilePath = Field(
        default=Path("party.key"), description="Private key that reads this party's secrets. Relative to party.toml."
    )
    signing_key: FilePath = Field(
        default=Path("party.signing.key"),
        description="Private key that signs what this party reports. Relative to party.toml.",
    )
    control_plane: ControlPlane | None = Field(default=None, description="Whose orders this host follows.")
    policy: Policy
    limits: Limits = Field(default_factory=Limits)
    logs: Logs = Field(default_factory=Logs)
    tls: TLSFiles | None = Field(default=None, description="Files for executions whose documents ask for TLS.")
    datasets: dict[DatasetName, DatasetEntry] = Field(default_factory=dict)


def parse(text: str) -> PartyFile:
    """Return what the text of a party.toml says. Raises pydantic's ValidationError, or another ValueError for a text
    that is no TOML."""
    return PartyFile.model_validate(tomllib.loads(text))
