"""The sign-in page, and the one after it that asks users with a second factor for a code."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.forms import AuthenticationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from controlplane.people.second_factor import TooManyTries, factor_of, try_code

#: Key in the session of who has given the right password and not the code yet.
PENDING = "second_step"
#: Seconds for which the password need not be given again.
PATIENCE = 600


class SignInView(LoginView):
    """Django's page of signing in, which hands over to the second step where there is one."""

    template_name = "admin/login.html"
    authentication_form = AuthenticationForm
    title = _("Log in")

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if admin.site.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index"))
        return super().get(request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        if factor_of(user) is None:
            return self.sign_in(user)
        self.request.session.cycle_key()
        self.request.session[PENDING] = {
            "user": user.pk, "hash": user.get_session_auth_hash(), "at": time.time(), "backend": user.backend,
        }  # fmt: skip
        query = f"?{urlencode({'next': self.get_redirect_url()})}" if self.get_redirect_url() else ""
        return HttpResponseRedirect(reverse("second_step") + query)

    def sign_in(self, user: Any) -> HttpResponse:
        """Sign a user in, and lead on."""
        login(self.request, user, getattr(user, "backend", None))
        return HttpResponseRedirect(self.get_success_url())

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        page = admin.site.each_context(self.request) | super().get_context_data(**kwargs)
        return page | {"title": self.title, "app_path": self.request.get_full_path()}


class CodeForm(forms.Form):
    """Asks for a code of the app, or for a recovery code."""

    code = forms.CharField(
        max_length=40,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false", "autocapitalize": "off"}
        ),
        help_text=_("The six digits that your authenticator app shows, or a recovery code."),
    )

    def is_right(self, request: HttpRequest, user: Any) -> bool:
        """Try the code; the form says so if it is wrong. Raises PermissionDenied after too many tries."""
        try:
            is_right = try_code(request, user, self.cleaned_data["code"])
        except TooManyTries as error:
            request.seconds_to_wait = error.seconds  # type: ignore[attr-defined]
            raise PermissionDenied(str(error)) from None
        if not is_right:
            self.add_error("code", gettext("This code is wrong, or was used already. Wait for the next one."))
        return is_right


class SecondStepView(SignInView):
    """Asks whoever has given the right password for the code, and signs them in."""

    template_name = "controlplane/second_step.html"
    authentication_form: Any = CodeForm
    title = _("Second step")
    user: Any = None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        self.user = self._pending(request)
        if self.user is None:
            return HttpResponseRedirect(reverse("admin:login"))
        return super().dispatch(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        kwargs = super().get_form_kwargs()
        del kwargs["request"]
        return kwargs

    def form_valid(self, form: Any) -> HttpResponse:
        if not form.is_right(self.request, self.user):
            return self.form_invalid(form)
        del self.request.session[PENDING]
        return self.sign_in(self.user)

    @staticmethod
    def _pending(request: HttpRequest) -> Any:
        """Return the user who has given the right password a moment ago, and may still sign in."""
        said = request.session.get(PENDING)
        if not said or not 0 <= time.time() - said["at"] <= PATIENCE:
            return None
        user: Any = User.objects.select_related("second_factor").filter(pk=said["user"], is_active=True).first()
        if user is None or not constant_time_compare(user.get_session_auth_hash(), said["hash"]):
            return None
        user.backend = said["backend"]
        return user
