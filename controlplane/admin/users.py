"""The admin of users and groups, and of the parties that they work for."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm

from controlplane.access import Access
from controlplane.admin.confirm import confirm_page
from controlplane.admin.listing import Listed
from controlplane.admin.permissions import may
from controlplane.admin.shown import NOTHING, first_names, moment
from controlplane.forms.people import GroupForm, InvitationForm, PersonForm, roles_of, single_permissions
from controlplane.people.links import Link, make_link
from controlplane.people.mail import is_configured
from controlplane.people.second_factor import factor_of, remove

admin.site.unregister((User, Group))

#: What it takes to give and take parties.
GRANT = "controlplane.change_partygrant"
#: Parties that a row of a list names.
MOST_NAMED = 5


class _Granting(Listed):
    """Part of the admin of users and of groups: their form gives and takes parties."""

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        base: Any = kwargs.get("form", self.form)
        # A field that is declared and not shown would be read all the same from what is posted
        shown = flatten_fieldsets(self.get_fieldsets(request, obj))
        absent: dict[str, Any] = {name: None for name in getattr(base, "declared_fields", ()) if name not in shown}
        kwargs["form"] = type(base.__name__, (base,), absent | {"access": Access.of(request)})
        return super().get_form(request, obj, change=change, **kwargs)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if hasattr(form, "save_grants"):
            form.save_grants(form.instance)

    def party_fields(self, request: HttpRequest, obj: Any) -> tuple[str, ...]:
        """Return the fields of the parties, for who may change them or only look."""
        may_grant = may(request, GRANT) and self.has_change_permission(request, obj)
        return ("all_parties", "parties") if may_grant else ("shown_parties",)

    @display(description=_("Parties"))
    def shown_parties(self, owner: Any) -> str:
        groups = owner.groups.all() if isinstance(owner, User) else ()
        grants = [grant for holder in (owner, *groups) for grant in holder.party_grants.all()]
        if getattr(owner, "is_superuser", False) or any(grant.all_parties for grant in grants):
            return gettext("all")
        names = sorted({grant.party.name for grant in grants})
        return first_names(names, MOST_NAMED) if names else NOTHING


@admin.register(User)
class UserAdmin(_Granting, DjangoUserAdmin, ModelAdmin):
    """Users. Only a superuser makes superusers, or changes one: whoever may manage users could otherwise become one."""

    form = PersonForm
    change_password_form = AdminPasswordChangeForm
    actions_detail = ("new_link", "reset_factor")
    list_display = ("username", "full_name", "email", "shown_roles", "shown_parties", "shown_sign_in", "is_active")
    list_filter = ("groups", "is_active", "is_superuser")
    csv_columns = (
        ("user name", "username"), ("e-mail", "email"), ("roles", roles_of),
        ("active", "is_active"), ("last sign-in", "last_login"),
    )  # fmt: skip
    readonly_fields = (
        "shown_sign_in", "shown_password", "shown_factor", "shown_roles", "shown_parties", "shown_single"
    )  # fmt: skip
    filter_horizontal = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups__party_grants__party", "party_grants__party")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:  # the page of an invitation has a form of its own
            return [(None, {"fields": ("username",)})]
        may_change = self.has_change_permission(request, obj)
        roles = ["groups"] if may_change else ["shown_roles"]
        if obj.user_permissions.exists():
            roles += ["shown_single", *(["take_single"] if may_change else [])]
        return [
            (None, {"fields": ("username", "first_name", "last_name", "email")}),
            (gettext("Roles"), {"fields": (*roles, "is_superuser")}),
            (gettext("Parties"), {"fields": self.party_fields(request, obj)}),
            ("Sign-in", {"fields": ("is_active", "is_staff", "shown_sign_in", "shown_password", "shown_factor")}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_readonly_fields(request, obj)
        return found if _is_superuser(request) else (*found, "is_superuser")

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if form.cleaned_data.get("take_single"):
            form.instance.user_permissions.clear()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_touch(request, obj)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) or super().has_change_permission(request)

    @staticmethod
    def _may_touch(request: HttpRequest, obj: Any) -> bool:
        return obj is None or not obj.is_superuser or _is_superuser(request)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Ask whom to invite; posted, make the user, and show the link by which they set a password."""
        if not (self.has_add_permission(request) and self.has_change_permission(request)):
            raise PermissionDenied
        data = request.POST if request.method == "POST" else None
        form = InvitationForm(Access.of(request), data, may_grant=may(request, GRANT))
        if data is not None and form.is_valid():
            user = form.save()
            self.log_addition(request, user, [{"added": {}}])
            return self._show(request, user, make_link(request, user, is_new=True))
        context = self.admin_site.each_context(request) | {
            "opts": self.opts, "title": gettext("Invite a user"), "form": form, "has_mail": is_configured(),
            "back": reverse("admin:auth_user_changelist"),
        }  # fmt: skip
        return TemplateResponse(request, "controlplane/invite.html", context)

    @action(description=_("Send a new link"), icon="link", permissions=("link",), url_path="link")
    def new_link(self, request: HttpRequest, object_id: str) -> HttpResponse:
        user = self.get_object(request, unquote(object_id))
        if user is None:
            raise Http404("There is no such user.")
        page = reverse("admin:auth_user_change", args=[user.pk])
        if not user.is_active:
            messages.error(request, gettext("{user} is not active. Tick Active and save first.").format(user=user))
            return HttpResponseRedirect(page)
        if request.method == "POST":
            return self._show(request, user, make_link(request, user, is_new=not user.has_usable_password()))
        to = (
            gettext("It is sent to {email}.").format(email=user.email)
            if is_configured() and user.email
            else gettext("It is shown here, to hand it over.")
        )
        facts = [
            (
                gettext("What happens"),
                gettext("{user} sets a new password with it. Until then the present one stays valid.").format(
                    user=user
                ),
            ),
            (gettext("How it gets there"), to),
        ]
        return confirm_page(
            self,
            request,
            gettext("Make a new link for {user}?").format(user=user),
            gettext("Make the link"),
            page,
            facts=facts,
        )

    def has_link_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        user = self.get_object(request, unquote(str(object_id))) if object_id else None
        return self.has_change_permission(request, user)

    @action(
        description=_("Reset second factor"), icon="phonelink_erase", permissions=("reset",), url_path="reset-factor"
    )
    def reset_factor(self, request: HttpRequest, object_id: str) -> HttpResponse:
        user = self.get_object(request, unquote(object_id))
        if user is None:
            raise Http404("There is no such user.")
        page = reverse("admin:auth_user_change", args=[user.pk])
        if factor_of(user) is None:
            messages.info(request, gettext("{user} has no second factor.").format(user=user))
            return HttpResponseRedirect(page)
        if request.method == "POST":
            remove(user, gettext("reset second factor"))
            messages.success(
                request,
                gettext("{user} signs in with the password alone now, and can set up another one.").format(user=user),
            )
            return HttpResponseRedirect(page)
        question = gettext("Reset the second factor of {user}? Be sure that it is {user} who asks for it.").format(
            user=user
        )
        return confirm_page(self, request, question, gettext("Reset"), page, "cp-button-danger")

    def has_reset_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return _is_superuser(request)

    def _show(self, request: HttpRequest, user: User, link: Link) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "opts": self.opts, "title": gettext("Link to set a password"), "subject": user, "link": link,
            "page": reverse("admin:auth_user_change", args=[user.pk]), "back": reverse("admin:auth_user_changelist"),
        }  # fmt: skip
        return TemplateResponse(request, "controlplane/made_link.html", context, headers={"Cache-Control": "no-store"})

    @display(description=_("Name"), ordering="last_name")
    def full_name(self, user: User) -> str:
        return user.get_full_name() or NOTHING

    @display(description=_("Roles"))
    def shown_roles(self, user: User) -> str:
        return roles_of(user) or NOTHING

    @display(description=_("Permissions beside the roles"))
    def shown_single(self, user: User) -> str:
        return ", ".join(single_permissions(user))

    @display(description=_("Last sign-in"), ordering="last_login")
    def shown_sign_in(self, user: User) -> Any:
        return moment(user.last_login) if user.last_login else "never"

    @display(description=_("Password"))
    def shown_password(self, user: User) -> str:
        return "set" if user.has_usable_password() else gettext("not set yet")

    @display(description=_("Second factor"))
    def shown_factor(self, user: User) -> str:
        return gettext("on") if factor_of(user) else gettext("off")


@admin.register(Group)
class GroupAdmin(_Granting, DjangoGroupAdmin, ModelAdmin):
    """Groups: the roles that ship, and others."""

    form = GroupForm
    list_display = ("name", "members", "shown_parties")
    none_yet = _("No group yet. `manage.py migrate` makes the roles that ship.")
    readonly_fields = ("shown_parties",)
    filter_horizontal = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        rows: QuerySet[Group] = super().get_queryset(request).prefetch_related("party_grants__party")
        return rows.annotate(member_count=Count("user", distinct=True))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [
            (None, {"fields": ("name", "permissions")}),
            (gettext("Parties"), {"fields": self.party_fields(request, obj)}),
        ]

    @display(description=_("Members"), ordering="member_count")
    def members(self, group: Any) -> int:
        return int(group.member_count)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))
