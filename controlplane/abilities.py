"""What one can do, in plain words, and the permissions that it takes: for pages that show or give roles."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.utils.translation import gettext_lazy as _


def _all(app: str, *models: str, verbs: tuple[str, ...] = ("add", "change", "delete")) -> frozenset[str]:
    return frozenset(f"{app}.{verb}_{model}" for model in models for verb in verbs)


class Extent(Enum):
    """How much of an ability somebody has."""

    WHOLE, PART, NONE = "yes", "in part", "no"


@dataclass(frozen=True, slots=True)
class Ability:
    """Something that one can do."""

    words: Any
    permissions: frozenset[str]

    def extent(self, held: Collection[str]) -> Extent:
        """Return how much of it these permissions give."""
        found = self.permissions.intersection(held)
        if not found:
            return Extent.NONE
        return Extent.WHOLE if found == self.permissions else Extent.PART


_DEVICES = ("clusterconfig", "spuconfig", "heuconfig", "deviceconfig")

#: In the order in which pages show them.
ABILITIES = (
    Ability(
        _("Look at parties, datasets, tasks and everything else that is registered"),
        _all("controlplane", "task", "pipeline", "schedule", *_DEVICES, "party", "dataset", "site", verbs=("view",)),
    ),
    Ability(_("Look at executions, their events and results"), frozenset({"executions.view_execution"})),
    Ability(_("Run tasks and pipelines"), frozenset({"executions.add_execution"})),
    Ability(_("Cancel what is running"), frozenset({"executions.change_execution"})),
    Ability(
        _("Register and change tasks, pipelines and schedules"), _all("controlplane", "task", "pipeline", "schedule")
    ),
    Ability(_("Register and change clusters and devices"), _all("controlplane", *_DEVICES)),
    Ability(_("Register and change datasets"), _all("controlplane", "dataset")),
    Ability(_("Change a party's address, ports and keys"), frozenset({"controlplane.change_party"})),
    Ability(_("Register and remove parties"), _all("controlplane", "party", verbs=("add", "delete"))),
    Ability(_("Change the environment's name and its security"), frozenset({"controlplane.change_site"})),
    Ability(_("Read the audit trail"), frozenset({"controlplane.view_auditentry"})),
    Ability(_("Invite users, give roles and parties"), _all("auth", "user") | _all("controlplane", "partygrant")),
    Ability(_("Make and change groups"), _all("auth", "group")),
    Ability(_("See and revoke the API tokens of all users"), _all("knox", "authtoken", verbs=("view", "delete"))),
)


def table(holders: Iterable[Collection[str]]) -> list[tuple[str, list[Extent]]]:
    """Return the words of each ability, and how much of it each of these has, by their permissions."""
    held = [frozenset(permissions) for permissions in holders]
    return [(ability.words, [ability.extent(permissions) for permissions in held]) for ability in ABILITIES]
