"""The page that asks before something is done: unfold's actions are links, and only posting a form may do anything."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse


def confirm_page(
    model_admin: Any,
    request: HttpRequest,
    question: str,
    button: str,
    back: str,
    button_class: str = "cp-button-primary",
    facts: Any = (),
    hidden: Any = (),
) -> HttpResponse:
    """Return the page that asks before ``action`` is done. ``facts``: pairs of label and value; ``back``: URL of the
    Back button; ``hidden``: pairs of name and value that are posted along."""
    context = {
        **model_admin.admin_site.each_context(request),
        "title": question,
        "opts": model_admin.opts,
        "question": question,
        "button": button,
        "button_class": button_class,
        "back": back,
        "facts": facts,
        "hidden": hidden,
    }
    return TemplateResponse(request, "controlplane/confirm.html", context)
