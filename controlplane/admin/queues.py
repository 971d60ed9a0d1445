"""RQ's own pages, which show what is in Redis of all parties."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django_rq.admin import QueueAdmin
from django_rq.models import Dashboard

from controlplane.access import Access


def _may_see_queues(request: HttpRequest) -> bool:
    return Access.of(request).may("django_rq.admin") and Access.of(request).parties is None


def _guarded(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated and not _may_see_queues(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


@admin.register(Dashboard)
class GuardedQueueAdmin(QueueAdmin):
    """django-rq's pages, which it shows to all staff."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _may_see_queues(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_see_queues(request)

    def get_urls(self) -> list[Any]:
        patterns: list[Any] = super().get_urls()
        for pattern in patterns:
            pattern.callback = _guarded(pattern.callback)
        return patterns
