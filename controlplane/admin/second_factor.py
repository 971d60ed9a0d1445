"""The page on which a user sets up a second factor, takes new recovery codes, or ends it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from controlplane.admin.sign_in_pages import CodeForm
from controlplane.people import second_factor as factors


@sensitive_variables()
@require_http_methods(["GET", "POST"])
def second_factor(request: HttpRequest) -> HttpResponse:
    """Show whether there is a second factor, or the secret for an app; posted, do what the button says."""
    user: Any = request.user
    factor = factors.factor_of(user)
    do = request.POST.get("do", "")
    form = CodeForm(request.POST if do in ("confirm", "codes", "remove") else None)
    if request.method == "POST" and do == "begin" and factor is None:
        factors.begin(user)
        return HttpResponseRedirect(f"{reverse('second_factor')}?begun")
    if form.is_bound and form.is_valid():
        answer = _change(request, user, factor, do, form)
        if answer is not None:
            return answer
    if factor is None:
        form.fields["code"].help_text = gettext("Six digits.")
    pending = getattr(user, "second_factor", None) if factor is None else None
    is_begun = pending is not None and ("begun" in request.GET or form.is_bound)
    context = _page(request) | {
        "form": form, "factor": factor, "is_required": factors.is_required(user), "is_begun": is_begun,
        "codes_left": user.recovery_codes.count() if factor else 0,
    }  # fmt: skip
    if is_begun and pending is not None:
        secret = factors.secret_of(pending)
        context["secret"] = " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))
        context["picture"] = factors.picture_of(pending)
    return TemplateResponse(request, "controlplane/second_factor.html", context)


def _change(request: HttpRequest, user: Any, factor: Any, do: str, form: CodeForm) -> HttpResponse | None:
    """Do what a button says, if the code is right. Returns the answer; None if the page is to be shown again."""
    code = form.cleaned_data["code"]
    if do == "confirm" and factor is None:
        pending = getattr(user, "second_factor", None)
        if codes := (factors.confirm(pending, code) if pending else []):
            return _shown(request, codes)
        form.add_error("code", gettext("This code is wrong. Is the clock of the device right? Wait for the next code."))
        return None
    if do == "remove" and factors.is_required(user):
        raise PermissionDenied(gettext("The settings ask for a second factor."))
    if do == "confirm" or factor is None:
        return HttpResponseRedirect(reverse("second_factor"))
    if not form.is_right(request, user):
        return None
    if do == "codes":
        return _shown(request, factors.make_recovery_codes(user))
    factors.remove(user)
    messages.success(request, gettext("The second factor is off. You sign in with your password alone."))
    return HttpResponseRedirect(reverse("account"))


def _shown(request: HttpRequest, codes: list[str]) -> HttpResponse:
    headers = {"Cache-Control": "no-store"}
    return TemplateResponse(
        request, "controlplane/recovery_codes.html", _page(request) | {"codes": codes}, headers=headers
    )


def _page(request: HttpRequest) -> dict[str, Any]:
    return admin.site.each_context(request) | {"title": gettext("Second factor")}


urlpatterns = [path("second-factor/", admin.site.admin_view(second_factor), name="second_factor")]
