"""The admin of parties with what their hosts do: live workers, load and links; and pausing them. It is here because
``controlplane`` does not import ``executions``."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from redis.exceptions import RedisError
from unfold.decorators import action, display

from controlplane.admin.confirm import confirm_page
from controlplane.admin.parties import PartyAdmin
from controlplane.audit.record import record
from controlplane.models import Party, Pause
from executions.admin.party_page import state_of
from executions.coordinator.capacity import live_workers
from executions.redis import redis_connection, wake_coordinator

admin.site.unregister(Party)


class PauseForm(forms.Form):
    """Asks why a party is paused."""

    why = forms.CharField(
        label=_("Reason"), max_length=200, required=False, help_text=_("Whoever waits for the party reads it.")
    )


@admin.register(Party)
class WorkingPartyAdmin(PartyAdmin):
    """The parties' admin, with their live workers."""

    list_display = ("name", "description", "shown_workers", "address", "ports", "dataset_count")
    change_form_outer_before_template = "executions/party_state.html"
    actions_detail = ("pause", "resume")

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        try:
            alive = live_workers(redis_connection(), [row.name for row in rows])
        except (RedisError, OSError):
            alive = {}
        paused = {*Pause.objects.filter(party__in=rows).values_list("party", flat=True)}
        for row in rows:
            row.alive, row.is_paused = alive.get(row.name), row.pk in paused

    @display(description=_("Live workers"), label={"none": "warning", "unknown": "danger", "paused": "warning"})
    def shown_workers(self, party: Any) -> tuple[str, str] | str:
        if party.is_paused:
            return "paused", gettext("paused")
        if party.alive is None:  # Redis does not answer
            return "unknown", gettext("unknown")
        return str(party.alive) if party.alive else ("none", gettext("none"))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None and obj.pk and request.method == "GET":
            context["state"] = state_of(obj)
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    # --- pausing: links, as unfold's actions are; only posting the form that they lead to changes anything

    def has_pause_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return self._may(request, object_id, is_paused=False)

    def has_resume_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return self._may(request, object_id, is_paused=True)

    @action(description=_("Pause"), icon="pause", permissions=("pause",), url_path="pause")
    def pause(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have nothing new sent to the party; what runs there goes on."""
        party = self._get(request, object_id)
        form = PauseForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            pause, _ = Pause.objects.get_or_create(party=party, defaults={"why": form.cleaned_data["why"]})
            record("pause", f"party {party}", details=pause.why)
            messages.success(
                request,
                gettext("{party} is paused: nothing new is sent to it. What runs there goes on.").format(party=party),
            )
            return HttpResponseRedirect(reverse("admin:controlplane_party_change", args=[party.pk]))
        context = self.admin_site.each_context(request) | {
            "title": gettext("Pause {party}?").format(party=party),
            "opts": self.opts,
            "original": party,
            "form": form,
            "back": reverse("admin:controlplane_party_change", args=[party.pk]),
        }
        return TemplateResponse(request, "executions/pause.html", context)

    @action(description=_("Resume"), icon="play_arrow", permissions=("resume",), url_path="resume")
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have executions dispatched to the party again."""
        party = self._get(request, object_id)
        page = reverse("admin:controlplane_party_change", args=[party.pk])
        if request.method != "POST":
            return confirm_page(
                self, request, gettext("Send executions to {party} again?").format(party=party), gettext("Resume"), page
            )
        Pause.objects.filter(party=party).delete()
        record("resume", f"party {party}")
        wake_coordinator()
        messages.success(request, gettext("{party} takes executions again.").format(party=party))
        return HttpResponseRedirect(page)

    def _may(self, request: HttpRequest, object_id: Any, is_paused: bool) -> bool:
        party = self.get_object(request, str(object_id)) if object_id else None
        if party is None:  # what somebody may not see is, for them, not there: the view says so
            return bool(self.has_change_permission(request))
        if not self.has_change_permission(request, party):
            return False
        return Pause.objects.filter(party=party).exists() == is_paused

    def _get(self, request: HttpRequest, object_id: str) -> Party:
        party = self.get_object(request, object_id)
        if party is None or not self.has_change_permission(request, party):
            raise Http404("There is no such party, or you may not change it.")
        found: Party = party
        return found
