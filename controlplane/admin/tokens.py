"""The admin of API tokens: users make their own, and see each one's text once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables
from knox.models import AuthToken
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextInputWidget,
)

from controlplane.access import Access
from controlplane.admin.listing import Listed
from controlplane.admin.permissions import may
from controlplane.admin.scoped import NotFound
from controlplane.models import Party, TokenTerms
from controlplane.models.token import MOST_DAYS, USUAL_DAYS, Scope

admin.site.unregister(AuthToken)

#: What each scope permits, for who chooses some.
_SCOPES = {
    Scope.READ: "Read: look at everything that you may see",
    Scope.SUBMIT: "Submit: run, retry and cancel executions and pipelines",
    Scope.MANAGE: "Manage: register and change tasks, datasets, schedules and the rest",
}


class TokenForm(forms.Form):
    """Asks what a new token may do."""

    name = forms.CharField(
        max_length=100, widget=UnfoldAdminTextInputWidget, help_text="What uses it, such as nightly reports."
    )
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, words) for scope, words in _SCOPES.items()],
        initial=[Scope.READ.value],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        label="May do",
        help_text="Never more than you may do yourself at that moment.",
    )
    parties = forms.ModelMultipleChoiceField(
        Party.objects.none(),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Parties that it is limited to. If you tick none, it has those that you have at that moment.",
    )
    days = forms.IntegerField(
        min_value=1,
        max_value=MOST_DAYS,
        initial=USUAL_DAYS,
        widget=UnfoldAdminIntegerFieldWidget,
        label="Days",
        help_text=f"Days until it expires, at most {MOST_DAYS}.",
    )

    def __init__(self, access: Access, data: Any = None) -> None:
        super().__init__(data)
        field: Any = self.fields["parties"]
        field.queryset = access.visible(Party.objects.all())

    @sensitive_variables()
    def make(self, user: Any) -> tuple[AuthToken, str]:
        """Return a new token of this user, and its text."""
        given = self.cleaned_data
        names = frozenset(party.name for party in given["parties"]) or None
        return TokenTerms.make_token(user, given["name"], given["scopes"], names, timedelta(days=given["days"]))


@admin.register(AuthToken)
class AuthTokenAdmin(Listed, NotFound):
    """Shows and revokes a user's own tokens, or everybody's with the permission to. Each user makes their own, which
    gives nobody more power than they have; those of services are made by ``manage.py token``."""

    list_display = ("name", "token_key", "user", "scopes", "parties", "last_used", "created", "expiry")
    list_select_related = ("user", "terms")
    none_yet = "You have no API token yet. Add one for a service that works in your name."
    search_fields = ("token_key", "user__username", "terms__name")
    fields = ("name", "token_key", "user", "scopes", "parties", "last_used", "created", "expiry")
    ordering = ("-created",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuthToken]:
        rows: QuerySet[AuthToken] = super().get_queryset(request)
        return rows if may(request, "knox.view_authtoken") else rows.filter(user=request.user.pk)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return True

    def has_view_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return obj is None or obj.user_id == request.user.pk or may(request, "knox.view_authtoken")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return True

    def has_change_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return obj is None or obj.user_id == request.user.pk or may(request, "knox.delete_authtoken")

    @display(description="Name")
    def name(self, token: Any) -> str:
        return token.terms.name if hasattr(token, "terms") else "-"

    @display(description="May do")
    def scopes(self, token: Any) -> str:
        return ", ".join(token.terms.scopes) if hasattr(token, "terms") else "nothing"

    @display(description="Parties")
    def parties(self, token: Any) -> str:
        limited = token.terms.parties if hasattr(token, "terms") else []
        return "all of its user's" if limited is None else ", ".join(limited)

    @display(description="Last used")
    def last_used(self, token: Any) -> Any:
        return (token.terms.last_used_at if hasattr(token, "terms") else None) or "never"

    @sensitive_variables("text")
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Show the form of a new token; posted, make it and show its text this once."""
        form = TokenForm(Access.of(request), request.POST if request.method == "POST" else None)
        context = self.admin_site.each_context(request) | {"opts": self.opts, "title": "New API token", "form": form}
        context["back"] = reverse("admin:knox_authtoken_changelist")
        if request.method != "POST" or not form.is_valid():
            return TemplateResponse(request, "controlplane/new_token.html", context)
        token, text = form.make(request.user)
        self.log_addition(request, token, [{"added": {}}])
        context |= {"text": text, "token": token, "name": form.cleaned_data["name"]}
        return TemplateResponse(request, "controlplane/made_token.html", context, headers={"Cache-Control": "no-store"})
