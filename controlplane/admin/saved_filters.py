"""Filters that a user keeps under a name: saving and deleting one. Each list shows those of its user."""

from __future__ import annotations

from copy import copy
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, PAGE_VAR
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from controlplane.models import MOST_SAVED, SavedFilter


def saved_of(request: HttpRequest, label: str) -> QuerySet[SavedFilter]:
    """Return the filters that the user of the request keeps of a list."""
    return SavedFilter.objects.filter(user=request.user.pk, list=label)


def list_of(label: str) -> str:
    """Return the address of a list, by the model that it shows."""
    return reverse(f"admin:{label.replace('.', '_')}_changelist")


@require_POST
def save_filter(request: HttpRequest) -> HttpResponse:
    """Keep what was chosen in a list, under a name, and lead back to the list."""
    label, name = request.POST.get("list", ""), request.POST.get("name", "").strip()
    model_admin = _admin_of(label)
    if not model_admin.has_view_or_change_permission(request):
        raise PermissionDenied
    query = _checked(model_admin, request, request.POST.get("query", ""))
    back = f"{list_of(label)}?{query}" if query else list_of(label)
    if problem := _problem(name, query):
        messages.error(request, problem)
        return HttpResponseRedirect(back)
    with transaction.atomic():
        # Of two at once, the second counts what the first has saved
        user = User.objects.select_for_update(no_key=True).get(pk=request.user.pk or 0)
        mine = SavedFilter.objects.filter(user=user)
        if mine.exclude(list=label, name=name).count() >= MOST_SAVED:
            messages.error(
                request,
                gettext("You have {number} saved filters, which is the most. Delete one first.").format(
                    number=MOST_SAVED
                ),
            )
            return HttpResponseRedirect(back)
        SavedFilter.objects.update_or_create(user=user, list=label, name=name, defaults={"query": query})
    messages.success(request, gettext("Saved as {name}.").format(name=name))
    return HttpResponseRedirect(back)


@require_POST
def delete_filter(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete one of the user's own saved filters, and lead back to its list."""
    saved = get_object_or_404(SavedFilter, pk=pk, user=request.user.pk)
    saved.delete()
    messages.success(request, gettext("The saved filter {name} was deleted.").format(name=saved.name))
    return HttpResponseRedirect(list_of(saved.list))


def _admin_of(label: str) -> Any:
    found = {model._meta.label_lower: model_admin for model, model_admin in admin.site._registry.items()}
    if label not in found:
        raise Http404("There is no such list.")
    return found[label]


def _checked(model_admin: Any, request: HttpRequest, query: str) -> str:
    """Return a query written anew. Raises Http404 for one that its list would not take: only filters, a search and an
    order are kept."""
    given = QueryDict(query[:4000].lstrip("?"), mutable=True)
    for left_out in (PAGE_VAR, ERROR_FLAG):
        given.pop(left_out, None)
    probe = copy(request)
    probe.method, probe.GET = "GET", given  # type: ignore[assignment]
    try:
        model_admin.get_changelist_instance(probe)
    except (IncorrectLookupParameters, SuspiciousOperation):
        raise Http404("The list has no such filter.") from None
    return given.urlencode()


def _problem(name: str, query: str) -> str:
    longest = SavedFilter._meta.get_field("name").max_length or 0
    if not name:
        return gettext("Give the filter a name.")
    if len(name) > longest or "\0" in name:
        return gettext("Give the filter a name of at most {longest} characters.").format(longest=longest)
    if not query:
        return gettext("Nothing is filtered yet. Choose filters first, then save them.")
    if len(query) > (SavedFilter._meta.get_field("query").max_length or 0):
        return gettext("The filter is too long to be saved.")
    return ""


urlpatterns = [
    path("save/", admin.site.admin_view(save_filter), name="save_filter"),
    path("<int:pk>/delete/", admin.site.admin_view(delete_filter), name="delete_filter"),
]
