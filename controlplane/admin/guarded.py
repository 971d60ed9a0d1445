"""Forms that do not overwrite what somebody else saved after they were opened."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext

#: Hidden field of a form: the version of the row that it shows.
SEEN = "seen_version"


class _GuardedForm(forms.ModelForm):
    def clean(self) -> Any:
        cleaned = super().clean()
        seen, row = self.cleaned_data.pop(SEEN, None), self.instance
        if not row.pk or seen is None:
            return cleaned
        version, who = _newest(row)
        if version != seen:
            raise ValidationError(
                gettext(
                    "{who} saved version {version} after you had opened version {seen}. Nothing of yours "
                    "is saved: open the page again, and make your changes to that version."
                ).format(who=who, version=version, seen=seen)
            )
        return cleaned


def _newest(row: Any) -> tuple[int, Any]:
    """Return the version of a row that is stored, and who saved it."""
    if hasattr(type(row), "history"):
        newest = type(row).history.filter(id=row.pk).select_related("history_user").first() or row
        return newest.version, getattr(newest, "history_user", None) or gettext("The control plane")
    # Nobody else saves one until this is saved: the form is cleaned in the same transaction
    rows = type(row)._base_manager.select_for_update(no_key=True).filter(pk=row.pk)
    version = rows.values_list("version", flat=True).first()
    if version is None:
        raise ValidationError(gettext("It was deleted after you had opened it. Nothing of yours is saved."))
    return version, gettext("Somebody")


class Guarded:
    """Part of a ModelAdmin of versioned rows: its form carries the version that it shows, and refuses to save another
    one's successor. Of two who open the page at once, the second is told."""

    #: Inside the form: as one of its fieldsets' fields, unfold would give it a label.
    change_form_before_template = "controlplane/seen_version.html"

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if self._is_guarded(request, obj):
            field = forms.IntegerField(widget=forms.HiddenInput, required=False, initial=obj.version)
            base: Any = kwargs.get("form", self.form)  # type: ignore[attr-defined]
            kwargs["form"] = type(base.__name__, (_GuardedForm, base), {SEEN: field})
        return super().get_form(request, obj, change=change, **kwargs)  # type: ignore[misc]

    def _is_guarded(self, request: HttpRequest, obj: Any) -> bool:
        of_the_past = getattr(request, "of_the_past", False)
        may_change = self.has_change_permission(request, obj)  # type: ignore[attr-defined]
        return bool(obj and obj.pk and may_change and not of_the_past)
