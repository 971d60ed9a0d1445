"""Versions of what an operator registers: each change makes one, and the history keeps who made it, when and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.db import models, transaction
from simple_history.models import HistoricalRecords

SHOWN = 120


class _Absent:
    """A key that is not there, as opposed to one that says null."""

    def __repr__(self) -> str:
        return "(none)"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs: where, and from what to what; ABSENT where there was or is none."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.words}" if self.path else self.words

    @property
    def words(self) -> str:
        if isinstance(self.old, list) and isinstance(self.new, list):
            # of two long lists, what makes the difference
            removed = [entry for entry in self.old if entry not in self.new]
            added = [entry for entry in self.new if entry not in self.old]
            parts = [("removed", removed), ("added", added)]
            if removed or added:
                return "; ".join(f"{word} {shown(entries)}" for word, entries in parts if entries)
        return f"{shown(self.old)} -> {shown(self.new)}"


def differences(old: Any, new: Any, path: str = "") -> Iterator[Change]:
    """What differs between two JSON values, key by key, with dotted paths; a list counts as one value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            where = f"{path}.{key}" if path else str(key)
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), where)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):  # True == 1, and not to a document
        yield Change(path, old, new)


def shown(value: Any) -> str:
    """A value for people, in one line. Whatever is shown of a change passes here: a secret would be masked here."""
    if value is None or value is ABSENT or value == "":
        return repr(ABSENT)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


class Versioned(models.Model):
    """What an operator registers. A save that changes something is the next version and leaves a row in ``history``
    (the user of the request by itself; why, from ``_change_reason``); one that changes nothing leaves no trace."""

    version = models.PositiveIntegerField(default=1, editable=False, help_text="Rises by one with each change.")

    history = HistoricalRecords(inherit=True)

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self._state.adding:
            super().save(*args, **kwargs)
            return
        with transaction.atomic():
            # locked: of two saves at once the second compares with what the first wrote, and counts on from there
            stored = type(self)._base_manager.select_for_update(no_key=True).filter(pk=self.pk).first()
            changed = {f.name for f in self._compared() if stored is None or self._differs(f, stored)}
            if stored is not None:
                self.version = stored.version
            if not changed:
                return
            if any(f.editable for f in self._compared() if f.name in changed):
                self.version += 1
                if kwargs.get("update_fields") is not None:
                    kwargs["update_fields"] = {*kwargs["update_fields"], "version"}
                super().save(*args, **kwargs)
            else:  # nothing that an operator writes, such as which execution a dataset came from
                self._save_quietly(*args, **kwargs)

    def _save_quietly(self, *args: Any, **kwargs: Any) -> None:
        self.skip_history_when_saving = True
        try:
            super().save(*args, **kwargs)
        finally:
            del self.skip_history_when_saving

    def _compared(self) -> list[Any]:
        """The fields in which a change is one."""
        fields: list[Any] = list(self._meta.concrete_fields)
        return [f for f in fields if not (f.primary_key or f.name == "version" or getattr(f, "auto_now", False))]

    def _differs(self, field: Any, stored: models.Model) -> bool:
        return any(differences(getattr(stored, field.attname), getattr(self, field.attname)))
