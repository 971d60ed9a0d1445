"""The base of everything that is registered: a version and a history."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import models, transaction
from django.db.models import QuerySet
from django.dispatch import Signal
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from controlplane.documents.differences import differences
from controlplane.models.party_set import Parties

#: Sent with ``before``, the stored row, before a row is renamed that documents name. A receiver raises ValidationError
#: if the new name would break them.
about_to_be_renamed = Signal()


class Versioned(models.Model):
    """Something that an operator registers. A save that changes it makes the next version and a row of ``history`` with
    the request's user and, from ``_change_reason``, why. A save that changes nothing leaves no trace."""

    version = models.PositiveIntegerField(default=1, editable=False, help_text=_("Rises by one with each change."))

    history = HistoricalRecords(inherit=True)

    #: Parties that whoever writes it may name; None for all. The admin and the API set it before they validate, so that
    #: what is not to be seen is, for the checks and their messages, as if it did not exist.
    within: Parties = None
    #: Whether its own document names the parties that it involves.
    names_parties = False

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self._state.adding:
            super().save(*args, **kwargs)
            return
        with transaction.atomic():
            # locked: of two saves at once the second compares itself with what the first wrote, and continues its count
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
            else:  # no operator wrote it: the execution that made a dataset, say
                self._save_quietly(*args, **kwargs)

    @classmethod
    def involving(cls, rows: QuerySet[Any], parties: Collection[str], wholly: bool = False) -> QuerySet[Any]:
        """Return those of the rows that involve at least one of the parties, or none at all; ``wholly``: and no other
        parties."""
        raise NotImplementedError

    @classmethod
    def rows_within(cls, parties: Parties, wholly: bool = False) -> QuerySet[Any]:
        """Return all rows as whoever works for these parties finds them; see ``involving``."""
        rows: QuerySet[Any] = cls._default_manager.all()
        return rows if parties is None else cls.involving(rows, parties, wholly)

    def involved(self) -> set[str] | None:
        """Return the names of the parties that a change of it affects; None for all that there may be."""
        raise NotImplementedError

    def _save_quietly(self, *args: Any, **kwargs: Any) -> None:
        self.skip_history_when_saving = True
        try:
            super().save(*args, **kwargs)
        finally:
            del self.skip_history_when_saving

    def _compared(self) -> list[Any]:
        """Return the fields whose changes make a new version."""
        fields: list[Any] = list(self._meta.concrete_fields)
        return [f for f in fields if not (f.primary_key or f.name == "version" or getattr(f, "auto_now", False))]

    def _differs(self, field: Any, stored: models.Model) -> bool:
        return any(differences(getattr(stored, field.attname), getattr(self, field.attname)))
