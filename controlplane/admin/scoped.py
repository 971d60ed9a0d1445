"""The part of each page that keeps to the parties of its user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from controlplane.access import NOT_COVERED, Access
from controlplane.models.party_set import Parties
from controlplane.models.versioned import Versioned


class _ScopedForm(forms.ModelForm):
    """Validates as if other parties than those of the user did not exist."""

    access: Access
    within: Parties

    def _post_clean(self) -> None:
        self.instance.within = self.within
        super()._post_clean()  # type: ignore[misc]  # the stubs leave it out
        if not self.errors and not self.access.covers(self.instance):
            self.add_error(None, NOT_COVERED)


class NotFound(ModelAdmin):
    """Part of a ModelAdmin: what is not there, or not to be seen, is not found. Django leads to the front page."""

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        raise Http404(f"There is no {opts.verbose_name} of this id, or none that you may see.")


class Scoped(NotFound):
    """Part of a ModelAdmin: what its user may not see does not exist, and what involves further parties, too, is only
    shown."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return Access.of(request).visible(super().get_queryset(request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(super().has_change_permission(request, obj)) and self._covers(request, obj)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # who may change such rows, and not this one, may look at it
        may_change = super().has_change_permission(request)
        return bool(may_change or super().has_view_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and self._covers(request, obj)

    @staticmethod
    def _covers(request: HttpRequest, obj: Any) -> bool:
        return obj is None or Access.of(request).covers(obj)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        access = Access.of(request)
        base: Any = kwargs.get("form", self.form)
        kwargs["form"] = type(base.__name__, (_ScopedForm, base), {"access": access, "within": access.parties})
        return super().get_form(request, obj, change=change, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        model = db_field.remote_field.model
        if issubclass(model, Versioned):
            kwargs["queryset"] = Access.of(request).usable(model._default_manager.all())
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        self.check_is_visible(request, object_id)
        return super().history_view(request, object_id, extra_context)

    def check_is_visible(self, request: HttpRequest, object_id: str) -> None:
        """Raise Http404 where simple_history would take what it shows from the versions: also of what was deleted, of
        which nobody knows any more whom it involved."""
        rows = self.get_queryset(request)
        if Access.of(request).parties is not None and not rows.filter(pk=object_id).exists():
            raise Http404("There is none of this id.")


class ScopedSelectFilter(AutocompleteSelectFilter):
    """A filter by a related row, which also shows a chosen one's name only to who may see it."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice in super().choices(changelist):
            field = choice["form"].fields[self.lookup_kwarg]
            field.queryset = Access.of(self.request).visible(field.queryset.all())
            yield choice
