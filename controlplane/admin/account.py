"""A user's own page: language and time zone, and the ways to the password, the API tokens and the rest."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import translation
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods
from knox.models import AuthToken
from unfold.widgets import UnfoldAdminSelectWidget

from controlplane.access import Access
from controlplane.forms.people import roles_of
from controlplane.models import Account
from controlplane.people.second_factor import factor_of
from controlplane.times import known_zones


class SettingsForm(forms.ModelForm):
    """Asks for the language of the console, and for the time zone in which it shows times."""

    language = forms.ChoiceField(
        label=_("Language"),
        choices=[("", _("as the browser asks")), *settings.LANGUAGES],
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text=_("Of the console. The API, logs and what is stored are English."),
    )

    time_zone = forms.ChoiceField(
        label=_("Time zone"),
        choices=lambda: [
            ("", "UTC"),
            *((name, name) for name in sorted(known_zones() - {"UTC"})),
        ],
        required=False,
        widget=UnfoldAdminSelectWidget(attrs={"data-time-zone": ""}),
        help_text=_("All pages show times in it. Hover over a time to see its zone. The API and downloads tell UTC."),
    )

    class Meta:
        model = Account
        fields = ["language", "time_zone"]


@require_http_methods(["GET", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    """Show the user's own page; posted, keep the language and the time zone."""
    form = SettingsForm(request.POST if request.method == "POST" else None, instance=Account.of(request.user))
    if form.is_bound and form.is_valid():
        form.save()
        with translation.override(form.instance.language or translation.get_language_from_request(request)):
            messages.success(request, gettext("The console uses these settings from now on."))
        return HttpResponseRedirect(reverse("account"))
    user: Any = request.user
    context = admin.site.each_context(request) | {
        "title": gettext("Your account"), "form": form, "facts": _facts(request, user),
        "tokens": AuthToken.objects.filter(user=user).count(),
        "factor": factor_of(user),
        "has_password": user.has_usable_password(),
    }  # fmt: skip
    return TemplateResponse(request, "controlplane/account.html", context)


def _facts(request: HttpRequest, user: User) -> list[tuple[str, str]]:
    parties = Access.of(request).parties
    return [
        (gettext("User name"), user.get_username()),
        (gettext("Name"), user.get_full_name()),
        ("E-mail", user.email),
        (gettext("Roles"), roles_of(user)),
        (gettext("Parties"), gettext("all") if parties is None else ", ".join(sorted(parties))),
    ]


urlpatterns = [path("", admin.site.admin_view(account), name="account")]
