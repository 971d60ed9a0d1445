"""The forms of users and groups: roles as a table of what each may do, and the parties that somebody works for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from django import forms
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.db.models import Q
from django.template.loader import render_to_string
from django.utils.safestring import mark_safe
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminEmailInputWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from controlplane.abilities import ABILITIES, table
from controlplane.access import Access
from controlplane.language import translated
from controlplane.models import Party, PartyGrant
from controlplane.roles import ROLES

#: Verbs of Django's permissions, and the heads of their columns.
VERBS = {"view": _("See"), "add": _("Add"), "change": _("Change"), "delete": _("Delete")}


def in_order(groups: Iterable[Group]) -> list[Group]:
    """Return groups as pages list them: the roles that ship first, in their order."""
    shipped = list(ROLES)
    return sorted(groups, key=lambda g: (shipped.index(g.name) if g.name in ROLES else len(shipped), g.name))


def roles_of(user: User) -> str:
    """Return what a user is, in words: superuser, and the roles in their order; empty if nothing."""
    return ", ".join(
        [
            *([gettext("Superuser")] if user.is_superuser else []),
            *(translated(g.name) for g in in_order(user.groups.all())),
        ]
    )


def permissions_of(groups: Iterable[Group]) -> dict[int, set[str]]:
    """Return the permissions of each group, such as ``executions.add_execution``. Takes one query."""
    found: dict[int, set[str]] = defaultdict(set)
    rows = Permission.objects.filter(group__in=list(groups)).order_by()
    for key, app, name in rows.values_list("group", "content_type__app_label", "codename"):
        found[key].add(f"{app}.{name}")
    return found


class RolesWidget(forms.CheckboxSelectMultiple):
    """Groups as the columns of a table, with what each of them may do."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        chosen = {str(key) for key in value or ()}
        groups = in_order(Group.objects.all())
        held = permissions_of(groups)
        everywhere = set(PartyGrant.objects.filter(all_parties=True, group__in=groups).values_list("group", flat=True))
        context = {
            "name": name,
            "id": (attrs or {}).get("id", f"id_{name}"),
            "groups": [{"key": g.pk, "name": g.name, "chosen": str(g.pk) in chosen} for g in groups],
            "rows": table(held[group.pk] for group in groups),
            "everywhere": [group.pk in everywhere for group in groups],
        }
        return mark_safe(render_to_string("controlplane/roles_widget.html", context))  # noqa: S308  a template's


class PermissionsWidget(forms.CheckboxSelectMultiple):
    """Permissions as a table: what they are about, and what may be done with it."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        chosen = {str(key) for key in value or ()}
        rows: dict[str, dict[str, list[Any]]] = {}
        for permission in offered_permissions().select_related("content_type").order_by("content_type", "pk"):
            model = permission.content_type.model_class()
            about = capfirst(str(model._meta.verbose_name_plural if model else permission.content_type.model))
            verb = permission.codename.partition("_")[0]
            box = {"key": permission.pk, "name": permission.name, "chosen": str(permission.pk) in chosen}
            rows.setdefault(about, {}).setdefault(verb if verb in VERBS else "other", []).append(box)
        context = {
            "name": name,
            "verbs": VERBS.values(),
            "rows": [(about, [boxes.get(verb, ()) for verb in VERBS]) for about, boxes in sorted(rows.items())],
        }
        return mark_safe(render_to_string("controlplane/permissions_widget.html", context))  # noqa: S308  a template's


def offered_permissions() -> Any:
    """Return the permissions that a group may be given on its page: those that something asks for."""
    wanted = Q()
    for name in frozenset().union(*(ability.permissions for ability in ABILITIES)):
        app, _, codename = name.partition(".")
        wanted |= Q(content_type__app_label=app, codename=codename)
    return Permission.objects.filter(wanted)


class GrantsForm(forms.ModelForm):
    """Part of the forms of users and groups: the parties that they work for, among those of whoever fills it in."""

    all_parties = forms.BooleanField(
        label=_("All parties"),
        required=False,
        widget=UnfoldBooleanWidget,
        help_text=_("Also parties that are registered later."),
    )
    parties = forms.ModelMultipleChoiceField(
        Party.objects.none(),
        label=_("Parties"),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=_("Beside those of the roles."),
    )

    access: Access

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        held = list(self.instance.party_grants.all()) if self.instance.pk else []
        if "parties" in self.fields:
            field: Any = self.fields["parties"]
            field.queryset = self.access.visible(Party.objects.order_by("name"))
            self.initial["parties"] = [grant.party_id for grant in held if grant.party_id]
        if "all_parties" in self.fields:
            self.initial["all_parties"] = any(grant.all_parties for grant in held)
            # Nobody gives away more than they have
            self.fields["all_parties"].disabled = self.access.parties is not None

    def save_grants(self, owner: User | Group) -> None:
        """Give and take what the form says. What whoever filled it in may not see stays as it is."""
        if "parties" not in self.fields or "all_parties" not in self.fields:
            return
        field: Any = self.fields["parties"]
        offered = set(field.queryset.values_list("pk", flat=True))
        wanted = {party.pk for party in self.cleaned_data["parties"]}
        everything = self.cleaned_data["all_parties"]
        held: Any = owner.party_grants
        for grant in list(held.all()):
            is_wanted = everything if grant.all_parties else grant.party_id in wanted or grant.party_id not in offered
            if not is_wanted:
                grant.delete()
        known = set(held.values_list("party", flat=True))
        for key in sorted(wanted - known):
            held.create(party_id=key)
        if everything and None not in known:
            held.create(all_parties=True)


class PersonForm(GrantsForm):
    """A user: name, roles, parties, and whether they may sign in."""

    groups = forms.ModelMultipleChoiceField(
        Group.objects.all(),
        required=False,
        label=_("Roles"),
        widget=RolesWidget,
        help_text=_("What several roles permit adds up. For which parties, the parties below say."),
    )
    take_single = forms.BooleanField(required=False, widget=UnfoldBooleanWidget, label=_("Take away"))

    class Meta:
        model = User
        fields = ["username", "first_name", "last_name", "email", "is_active", "is_staff", "is_superuser", "groups"]
        labels = {
            "username": _("User name"), "email": "E-mail", "is_staff": _("Uses the console"),
            "is_superuser": _("Superuser"),
        }  # fmt: skip
        help_texts = {
            "username": _("Letters, digits and @ . + - _; at most 150 characters."),
            "is_staff": _("May sign in here. Without it, the user may only use the API."),
            "is_superuser": _("May do everything, for all parties, whatever the roles say."),
            "is_active": _("Take the tick away instead of deleting a user: then who did what stays known."),
        }


class InvitationForm(GrantsForm):
    """Asks for what a new user needs; there is no password yet."""

    groups = forms.ModelMultipleChoiceField(
        Group.objects.all(),
        required=False,
        label=_("Roles"),
        widget=RolesWidget,
        help_text=_("Tick at least one: without a role the user may see nothing."),
    )

    class Meta:
        model = User
        fields = ["username", "email", "groups", "is_staff"]
        labels = PersonForm.Meta.labels
        help_texts = PersonForm.Meta.help_texts | {"email": _("May be left empty.")}
        widgets = {
            "username": UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
            "email": UnfoldAdminEmailInputWidget(attrs={"autocomplete": "off"}),
            "is_staff": UnfoldBooleanWidget,
        }

    field_order = ("username", "email", "groups", "all_parties", "parties", "is_staff")

    def __init__(self, access: Access, *args: Any, may_grant: bool, **kwargs: Any) -> None:
        self.access = access
        super().__init__(*args, initial={"is_staff": True}, **kwargs)
        if not may_grant:
            del self.fields["parties"], self.fields["all_parties"]

    def save(self, commit: bool = True) -> User:
        """Return the new user, who cannot sign in yet."""
        self.instance.set_unusable_password()
        with transaction.atomic():
            user: User = super().save()
            self.save_grants(user)
        return user


class GroupForm(GrantsForm):
    """A group: its name, what its members may do, and for which parties."""

    permissions = forms.ModelMultipleChoiceField(
        Permission.objects.none(), required=False, label=_("Members may"), widget=PermissionsWidget
    )

    class Meta:
        model = Group
        fields = ["name", "permissions"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "permissions" in self.fields:
            field: Any = self.fields["permissions"]
            field.queryset = offered_permissions()

    def clean_permissions(self) -> Any:
        """Return what is chosen, with what the group has and the page does not show."""
        chosen = self.cleaned_data["permissions"]
        if not self.instance.pk:
            return chosen
        kept = self.instance.permissions.exclude(pk__in=offered_permissions().order_by().values("pk"))
        keys = [*chosen.values_list("pk", flat=True), *kept.values_list("pk", flat=True)]
        return Permission.objects.filter(pk__in=keys)


def single_permissions(user: User) -> Iterator[str]:
    """Yield the permissions that a user has beside those of the roles."""
    for permission in user.user_permissions.select_related("content_type").order_by("pk"):
        yield permission.name.removeprefix("Can ")
