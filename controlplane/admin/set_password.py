"""The page to which a link leads: a user sets a password there, and then signs in with it."""

from __future__ import annotations

from math import ceil
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import logout
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.views import PasswordResetConfirmView
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminPasswordWidget

from controlplane.audit.record import record, record_refusal
from controlplane.audit.signals import name_of
from controlplane.models import SignInTries
from controlplane.people.links import token_generator
from controlplane.sign_in import FROM_ONE_ADDRESS, address_of, network_of


class NewPasswordForm(SetPasswordForm):
    """Asks for the password twice."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, label in (("new_password1", gettext("Password")), ("new_password2", gettext("Password again"))):
            self.fields[name].widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
            self.fields[name].label = label


class SetPasswordView(PasswordResetConfirmView):
    """Sets the password of whoever has a valid link. All other links get the same answer, whoever they name."""

    form_class = NewPasswordForm
    template_name = "controlplane/set_password.html"
    title = _("Set your password")
    user: Any
    token_generator = token_generator

    def dispatch(self, *args: Any, **kwargs: Any) -> Any:
        address = network_of(address_of(self.request))
        if wait := SignInTries.count(address, FROM_ONE_ADDRESS):
            self.request.seconds_to_wait = ceil(wait)  # type: ignore[attr-defined]
            raise PermissionDenied(gettext("There were too many tries."))
        response = super().dispatch(*args, **kwargs)
        if self.validlink or response.status_code == 302:
            SignInTries.uncount(address)
            return response
        record_refusal("a link to set a password", details="not valid", actor="nobody")
        response.status_code = 404
        return response

    def get_user(self, uidb64: str) -> Any:
        user = super().get_user(uidb64)
        return user if user is not None and user.is_active else None

    def form_valid(self, form: Any) -> HttpResponse:
        is_first = not self.user.has_usable_password()
        super().form_valid(form)
        record("set password", name_of(self.user), details="the first one" if is_first else "", by=self.user)
        if self.request.user.is_authenticated:  # possibly somebody else, on the same computer
            logout(self.request)
        if not self.user.is_staff:
            return self.render_to_response(self.get_context_data(is_done=True))
        messages.success(self.request, gettext("Your password is set. Sign in with it."))
        return HttpResponseRedirect(self.get_success_url())

    def get_success_url(self) -> str:
        return reverse("admin:login")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        page = admin.site.each_context(self.request) | super().get_context_data(**kwargs)
        title = self.title if self.validlink else gettext("This link is not valid")
        return page | {"title": title, "for_user": self.user if self.validlink else None}
