"""The admin of users and groups, and of the parties that they work for."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from controlplane.models import PartyGrant

admin.site.unregister((User, Group))


class _GrantInline(TabularInline):
    model = PartyGrant
    fields = ("party", "all_parties")
    extra = 0
    verbose_name_plural = "Parties that it is granted"


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    """Users. Only a superuser makes superusers, or changes one: whoever may manage users could otherwise become one."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    inlines = (_GrantInline,)

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else ()  # the first page of a new user asks for a name and a password

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_readonly_fields(request, obj)
        return found if _is_superuser(request) else (*found, "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_touch(request, obj)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) or super().has_change_permission(request)

    @staticmethod
    def _may_touch(request: HttpRequest, obj: Any) -> bool:
        return obj is None or not obj.is_superuser or _is_superuser(request)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    inlines = (_GrantInline,)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))
