"""What all that is registered has in common: a version, and a history."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.dispatch import Signal
from simple_history.models import HistoricalRecords

from controlplane.documents.differences import differences

#: Sent with ``before``, the stored row, when another name is about to be given to what documents name. A receiver
#: raises ValidationError where that would break what names it.
about_to_be_renamed = Signal()


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
        """Return the fields in which a change is one."""
        fields: list[Any] = list(self._meta.concrete_fields)
        return [f for f in fields if not (f.primary_key or f.name == "version" or getattr(f, "auto_now", False))]

    def _differs(self, field: Any, stored: models.Model) -> bool:
        return any(differences(getattr(stored, field.attname), getattr(self, field.attname)))
