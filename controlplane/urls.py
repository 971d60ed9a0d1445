from typing import NoReturn

from django.contrib import admin
from django.http import Http404, HttpRequest
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from controlplane.admin.autocomplete import Autocomplete
from controlplane.admin.set_password import SetPasswordView
from controlplane.admin.sign_in_pages import SecondStepView, SignInView
from controlplane.api.description import DescriptionView
from controlplane.api.login import LoginView, LogoutView
from controlplane.api.site import SiteView


def nowhere(request: HttpRequest, row: str) -> NoReturn:
    raise Http404


api = [
    path("", include("executions.api.urls")),
    path("site/", SiteView.as_view(), name="site"),
    path("auth/login/", LoginView.as_view(), name="login"),
    path("auth/logout/", LogoutView.as_view(), name="logout"),
    path("schema/", DescriptionView.as_view(), name="schema"),
    path(
        "docs/",
        SpectacularSwaggerSplitView.as_view(url_name="schema", template_name="controlplane/api_reference.html"),
        name="docs",
    ),
]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/autocomplete/", admin.site.admin_view(Autocomplete.as_view(admin_site=admin.site))),
    # Before unfold's own, which keeps what it has found for minutes, whatever its user may still see
    path("admin/search/", include("executions.admin.search")),
    path("admin/account/", include("controlplane.admin.account")),
    path("admin/notifications/", include("executions.admin.notifications")),
    path("admin/filters/", include("controlplane.admin.saved_filters")),
    path(
        "admin/set-password/<uidb64>/<token>/",
        SetPasswordView.as_view(),
        name="set_password",
    ),
    path("admin/account/", include("controlplane.admin.second_factor")),
    path("admin/login/", SignInView.as_view(), name="sign_in"),
    path("admin/second-step/", SecondStepView.as_view(), name="second_step"),
    # In place of Django's way to a row's page outside of the console: no row has one, and for a table of django-rq's,
    # which is in no database, it was answered 500
    path("admin/r/<path:row>", nowhere, name="view_on_site"),
    path("admin/", admin.site.urls),
    path("api/v1/", include(api)),
    path("", include("executions.urls")),
]
handler404 = "controlplane.middleware.not_found"
