"""Files that components keep and read: tables as CSV, everything else as one archive per party."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.contract.errors import ConfigError
from workers.host.sources import Source
from workers.host.tables import NO_NUMBER, WHOLE_LIMIT, column_types, text_blocks, type_name

DESCRIPTION, RECORD, OWN = "distdata.pb", "record.json", "own.json"


def link(table: Source, target: Path, numbers: Sequence[str]) -> None:
    """Make ``target`` a table that components can read: a link, or a copy if ``numbers`` have signs such as NA:
    components read any text except an empty cell as text. Raises ConfigError.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    signs = pa.array([sign for sign in NO_NUMBER if sign])

    def marked(column: Any) -> Any:
        return pc.is_in(pc.utf8_trim_whitespace(column), signs)

    blocks = text_blocks(table.path, table.name, list(numbers)) if numbers else iter(())
    if not any(pc.any(marked(column)).as_py() for block in blocks for column in block.columns):
        target.symlink_to(table.path)
        return
    names = list(column_types(table.path, table.name))
    schema = pa.schema([(name, pa.string()) for name in names])
    with csv.CSVWriter(target, schema) as writer:
        for block in text_blocks(table.path, table.name, names):
            cells = {name: pc.if_else(pc.equal(block[name], ""), None, block[name]) for name in names}
            for name in numbers:
                cells[name] = pc.if_else(marked(cells[name]), None, cells[name])
            writer.write_batch(pa.record_batch([cells[name] for name in names], schema=schema))


def as_csv(source: Path, target: Path, form: str, whole: Collection[str] = ()) -> dict[str, str]:
    """Write a table that a component left (ORC or CSV) as CSV with a header line, stripe by stripe.

    ``whole``: columns that were read as whole numbers. Components turn those with empty cells into floating-point
    numbers, and a large one would be written as 1e+10, which is another key than 10000000000. Returns the types of its
    columns, if the component's file has them.
    """
    if form == "csv":
        source.rename(target)
        return {}
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv, orc

    file = orc.ORCFile(source)
    stripes = (file.read_stripe(stripe) for stripe in range(file.nstripes))
    # A single empty cell would make an empty line, which readers skip: as text it has quotes
    is_text = len(file.schema) == 1 and any(stripe.column(0).null_count for stripe in stripes)
    schema = pa.schema([(file.schema.names[0], pa.string())]) if is_text else _as_they_were(file, whole)
    with csv.CSVWriter(target, schema) as writer:
        for index in range(file.nstripes):
            stripe = file.read_stripe(index)
            if is_text:
                stripe = pa.record_batch([pc.fill_null(stripe.column(0).cast(pa.string()), "")], schema=schema)
            else:
                stripe = pa.record_batch([stripe[field.name].cast(field.type) for field in schema], schema=schema)
            writer.write_batch(stripe)
    return {column.name: type_name(column.type) for column in (file.schema if is_text else schema)}


def _as_they_were(file: Any, whole: Collection[str]) -> Any:
    """Return the file's schema, with the columns of ``whole`` as whole numbers if all of their values still are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = file.schema
    for index, field in enumerate(schema):
        if field.name not in whole or not pa.types.is_floating(field.type):
            continue
        stripes = (file.read_stripe(stripe, [field.name]).column(0) for stripe in range(file.nstripes))
        if all(
            pc.all(pc.and_(pc.equal(pc.floor(cells), cells), pc.less(pc.abs(cells), WHOLE_LIMIT))).as_py() is not False
            for cells in stripes
        ):
            schema = schema.set(index, pa.field(field.name, pa.int64()))
    return schema


def packed(target: Path, data: Any, party: str, root: Path, own: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Write one party's part of a model (a DistData) to a file. ``own``: JSON that only this party knows. ``record``:
    how the model was made, the same at all parties.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(DESCRIPTION, data.SerializeToString(deterministic=True))
        archive.writestr(RECORD, json.dumps(record))
        archive.writestr(OWN, json.dumps(own))
        for index, part in enumerate(data.data_refs):
            if part.party == party:
                archive.write(root / part.uri, f"part{index}")


class Kept:
    """One party's part of a model that an earlier execution kept. Raises ConfigError if the file is not one."""

    def __init__(self, path: Path, name: str, party: str) -> None:
        self._path, self._name, self._party = path, name, party
        try:
            with zipfile.ZipFile(path) as archive:
                self._description = archive.read(DESCRIPTION)
                self.record: dict[str, Any] = json.loads(archive.read(RECORD))
                self.own: dict[str, Any] = json.loads(archive.read(OWN))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            raise ConfigError("{} at {} is no longer readable; make it again", name, party) from None

    @property
    def digest(self) -> str:
        """Return a digest that is the same at all parties that keep their parts of the same model."""
        return hashlib.sha256(self._description).hexdigest()

    @property
    def kind(self) -> str:
        """Return SecretFlow's name of the kind, such as ``sf.model.ss_sgd``."""
        from secretflow_spec.v1.data_pb2 import DistData

        return str(DistData.FromString(self._description).type)

    @property
    def public_info(self) -> dict[str, Any]:
        """Return what the component that made it says of it to all parties."""
        from secretflow_spec import ObjectFile
        from secretflow_spec.v1.data_pb2 import DistData

        found: dict[str, Any] = json.loads(ObjectFile.from_distdata(DistData.FromString(self._description)).public_info)
        return found

    def unpack(self, root: Path, directory: str) -> Any:
        """Return the DistData, its parts under ``root/directory``: its own here, those of other parties on their
        hosts."""
        from secretflow_spec.v1.data_pb2 import DistData

        data = DistData.FromString(self._description)
        (root / directory).mkdir(parents=True)
        with zipfile.ZipFile(self._path) as archive:
            for index, part in enumerate(data.data_refs):
                part.uri = f"{directory}/part{index}"
                if part.party == self._party:
                    archive.extract(f"part{index}", root / directory)
        return data
