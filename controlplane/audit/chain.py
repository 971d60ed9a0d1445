"""Seals audit entries, each with the hash of the one before: whoever changes or removes one changes all that follow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from controlplane.models import AuditEntry

#: Hash before the first entry.
BEGINNING = "0" * 64
#: Entries that are sealed in one transaction.
AT_ONCE = 500
#: An entry that is older than this and not sealed says that no coordinator runs, or that its seal was taken off.
SEALED_WITHIN = timedelta(minutes=10)


def hash_of(entry: AuditEntry, before: str) -> str:
    """Return the hash of an entry, which stands for all entries up to it."""
    said = [
        entry.position, entry.pk, entry.at.isoformat(), entry.actor, entry.address, entry.action, entry.subject,
        entry.digest, entry.details, before,
    ]  # fmt: skip
    if entry.request_id:  # entries of older versions have none, and their hashes stand
        said.append(entry.request_id)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _hash_or_none(entry: AuditEntry, before: str) -> str | None:
    try:
        return hash_of(entry, before)
    except (AttributeError, TypeError, ValueError):  # whoever changed it wrote what is no time, say
        return None


def seal() -> bool:
    """Seal entries that are not sealed yet. Returns whether there were any. Any number of processes may do it."""
    try:
        with transaction.atomic():
            return _seal()
    except IntegrityError:  # another process took the same position; what is left is sealed the next time
        return True


def _seal() -> bool:
    # In the order of their keys, as far as they are visible: what becomes visible later gets a later position
    waiting = list(
        AuditEntry.objects.select_for_update(of=("self",), no_key=True).filter(position=None).order_by("pk")[:AT_ONCE]
    )
    if not waiting:
        return False
    last = AuditEntry.objects.filter(position__isnull=False).order_by("-position").first()
    position, before = (last.position or 0, last.hash) if last else (0, BEGINNING)
    for entry in waiting:
        position += 1
        entry.position = position
        before = entry.hash = hash_of(entry, before)
    AuditEntry.objects.bulk_update(waiting, ["position", "hash"])
    return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look through the whole trail found."""

    sealed: int
    newest: str
    problems: list[str]


def verify() -> Verdict:
    """Return whether each entry is as it was sealed, and none is missing. Takes as long as there are entries."""
    problems: list[str] = []
    position, before = 0, BEGINNING
    for entry in _sealed():
        at = int(entry.position or 0)
        if at > position + 1:
            problems.append(f"{at - position - 1:,} entries are missing between positions {position:,} and {at:,}")
        elif at <= position:
            problems.append(f"position {at:,} was changed: it comes after {position:,}")
        if entry.hash != _hash_or_none(entry, before):
            problems.append(f"the entry at position {at:,} was changed, or one before it: {entry}")
        position, before = at, entry.hash
    late = AuditEntry.objects.filter(position=None, at__lt=timezone.now() - SEALED_WITHIN).count()
    if late:
        problems.append(f"{late:,} entries are not sealed after ten minutes: is `manage.py coordinate` running?")
    return Verdict(position, before, problems)


def _sealed() -> Iterator[AuditEntry]:
    return AuditEntry.objects.filter(position__isnull=False).order_by("position").iterator(chunk_size=2000)


def holds(known: str) -> bool:
    """Return whether a hash that was kept elsewhere is that of a sealed entry: all up to it is as it was then."""
    return known == BEGINNING or AuditEntry.objects.filter(hash=known, position__isnull=False).exists()
