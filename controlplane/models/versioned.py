"""The base of everything that is registered: a version and a history."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.dispatch import Signal
from simple_history.models import HistoricalRecords

from controlplane.documents.differences import differences

#: Sent with ``before``, the stored row, before a row is renamed that documents name. A receiver raises ValidationError
#: if the new name would break them.
about_to_be_renamed = Signal()


class Versioned(models.Model):
    """Something that an operator registers. A save that changes it makes the next version and a row of ``history`` with
    the request's user and, from ``_change_reason``, why. A save that changes nothing leaves no trace."""

    version = models.PositiveIntegerField(default=1, editable=False, help_text="Rises by one with each change.")

    history = HistoricalRecords(inherit=True)

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
