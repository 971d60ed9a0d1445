"""Writes what is registered as a profile."""

from __future__ import annotations

from typing import Any

from controlplane.models import (
    Site,
    Task,
)
from controlplane.profiles.stored import ENTRIES, document_key, is_written_by_hand, stored_rows, values_of
from controlplane.profiles.yaml import write
from workers.contract.secrets import masked_document


def export() -> str:
    """Return what is registered as a profile, without outputs of executions and without defaults. Secrets are masked:
    where they are known, applying the profile keeps them; elsewhere they have to be filled in.
    """
    site = Site.current()
    found: dict[str, Any] = {"environment": site.environment} if site.environment else {}
    found["security"] = site.security
    for key, row in stored_rows():
        if not is_written_by_hand(row):
            continue
        group = found.setdefault(key[0], {})
        for step in key[1:-1]:
            group = group.setdefault(step, {})
        fields = ENTRIES[key[0]].model_fields
        values = values_of(key[0], row)
        if layer := getattr(row, "layer", "task_config" if isinstance(row, Task) else ""):
            name = document_key(ENTRIES[key[0]])
            values[name] = masked_document(layer, values[name])
        group[key[-1]] = {n: v for n, v in values.items() if v != fields[n].get_default(call_default_factory=True)}
    return write(found)
