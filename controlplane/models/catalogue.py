"""Catalogues of what is registered, for validation; see ``workers.contract.catalogue.Catalogue``."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cached_property
from typing import Any

from django.db import models
from django.db.models import QuerySet
from django.db.models.functions import Coalesce

from controlplane.models.dataset import Dataset
from controlplane.models.party import Party
from controlplane.models.party_set import Parties
from controlplane.models.site import PRODUCTION, Site
from workers.contract.catalogue import Columns, Security


class DatabaseCatalogue:
    """The registered parties and datasets, for validation. Reads each party's datasets once."""

    def __init__(self, within: Parties = None) -> None:
        """Know these parties only; None for all."""
        # the tier comes with the same query; where no party is registered nothing can be less strict
        tier = Coalesce(models.Subquery(Site.objects.values("security")[:1]), models.Value(PRODUCTION))
        rows = list(Party.rows_within(within).values_list("name", "pk", "address", "public_key", tier))
        self.security: Security = rows[0][4] if rows else PRODUCTION
        self.parties: dict[str, int] = {name: pk for name, pk, *_ in rows}
        #: Party to the key that its secrets are sealed with; empty where none is registered.
        self.public_keys: dict[str, str] = {name: key for name, _, _, key, _ in rows}
        self._addresses: dict[str, str] = {name: address for name, _, address, *_ in rows}
        self._datasets: dict[str, Mapping[str, Columns]] = {}
        self._kept: dict[str, set[str]] = {}
        self._kinds: dict[str, dict[str, str]] = {}

    def datasets(self, party: str) -> Mapping[str, Columns | None] | None:
        if party not in self.parties:
            return None
        if party not in self._datasets:
            rows = list(
                Dataset.objects.filter(party_id=self.parties[party]).values_list(
                    "name", "columns", "produced_by", "kind"
                )
            )
            self._datasets[party] = {name: columns for name, columns, *_ in rows}
            self._kept[party] = {name for name, _, produced_by, _ in rows if produced_by is None}
            self._kinds[party] = {name: kind for name, *_, kind in rows}
        return self._datasets[party]

    def address(self, party: str) -> str | None:
        return self._addresses.get(party)

    def kept_names(self, party: str) -> set[str]:
        self.datasets(party)
        return self._kept.get(party, set())

    def kind(self, party: str, name: str) -> str | None:
        self.datasets(party)
        return self._kinds.get(party, {}).get(name)


class ComposingCatalogue(DatabaseCatalogue):
    """The catalogue for a task or pipeline that is being written: it may also name what other tasks will keep."""

    def __init__(self, others: QuerySet[Any], within: Parties = None) -> None:
        """Take the outputs of the tasks ``others`` as existing. ``within``: know these parties only."""
        super().__init__(within)
        self._others = others
        self._left_out: int | None = None

    def without(self, task: int) -> ComposingCatalogue:
        """Return the catalogue without the outputs of one of the tasks. It shares what was read."""
        assert self._outputs is not None, "read before it is shared"
        found = copy(self)
        found._left_out = task
        return found

    @cached_property
    def _outputs(self) -> dict[str, dict[str, set[int]]]:
        """Return, by party, the names under which tasks keep their outputs, each with these tasks' keys."""
        found: dict[str, dict[str, set[int]]] = {}
        rows = self._others.order_by().values_list("pk", "document__outputs", "document__further_outputs")
        for pk, outputs, further in rows:
            for named in (outputs, *(further.values() if isinstance(further, dict) else ())):
                for party, name in named.items() if isinstance(named, dict) else ():
                    found.setdefault(party, {}).setdefault(str(name), set()).add(pk)
        return found

    def datasets(self, party: str) -> Mapping[str, Columns | None] | None:
        registered = super().datasets(party)
        if registered is None:
            return None
        kept = self._outputs.get(party, {})
        return {name: None for name, tasks in kept.items() if tasks != {self._left_out}} | dict(registered)
