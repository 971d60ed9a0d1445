"""The admin of parties with the number of their live workers. It is here because ``controlplane`` does not import
``executions``."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from redis.exceptions import RedisError
from unfold.decorators import display

from controlplane.admin.parties import PartyAdmin
from controlplane.models import Party
from executions.coordinator.capacity import live_workers
from executions.redis import redis_connection

admin.site.unregister(Party)


@admin.register(Party)
class WorkingPartyAdmin(PartyAdmin):
    """The parties' admin, with their live workers."""

    list_display = ("name", "description", "shown_workers", "address", "ports", "dataset_count")

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        try:
            alive = live_workers(redis_connection(), [row.name for row in rows])
        except (RedisError, OSError):
            alive = {}
        for row in rows:
            row.alive = alive.get(row.name)

    @display(description="Live workers", label={"none": "warning", "unknown": "danger"})
    def shown_workers(self, party: Any) -> str:
        if party.alive is None:  # Redis does not answer
            return "unknown"
        return str(party.alive) if party.alive else "none"
