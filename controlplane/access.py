"""What somebody may do and see now. The admin and the API ask here, and nowhere else.

Permissions (Django's, mostly by the roles in ``controlplane.roles``) say what a user may do. Grants
(``controlplane.models.PartyGrant``) say for which parties. A token takes away from both.

- You see what involves at least one of your parties.
- You write and run what involves your parties only.
- You stop what you see.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from django.db.models import Model, QuerySet

from controlplane.models.grant import PartyGrant
from controlplane.models.party_set import Parties
from controlplane.models.token import Scope, TokenTerms

#: Said to whoever writes or runs what involves further parties.
NOT_COVERED = "It involves parties that you have no grant for; ask an administrator, or somebody who has."


class Access:
    """What a user may do and see; with a token, what the token may. It is asked for anew with each request."""

    def __init__(self, user: Any, terms: TokenTerms | None = None, is_token: bool = False) -> None:
        self._user = user
        self._terms = terms
        self._is_token = is_token

    @classmethod
    def of(cls, request: Any) -> Access:
        """Return what the sender of a request may do, of Django's or of REST framework's."""
        if not hasattr(request, "_access"):
            token = getattr(request, "auth", None)
            request._access = cls(request.user, getattr(token, "terms", None), is_token=token is not None)
        found: Access = request._access
        return found

    def may(self, *permissions: str) -> bool:
        """Return whether all these permissions, such as ``executions.add_execution``, are there."""
        if self._is_token:
            scopes = self._terms.scopes if self._terms else ()
            if not all(Scope.of(permission) in scopes for permission in permissions):
                return False
        return bool(self._user.has_perms(permissions))

    @property
    def manages(self) -> bool:
        """Return whether a token, if there is one, has the scope to manage."""
        return not self._is_token or bool(self._terms and Scope.MANAGE in self._terms.scopes)

    @cached_property
    def parties(self) -> Parties:
        """Return the parties that it extends to; None for all."""
        if not self._user.is_active or (self._is_token and self._terms is None):
            return frozenset()
        mine = None if self._user.is_superuser else PartyGrant.parties_of(self._user.pk)
        if self._terms is None or self._terms.parties is None:
            return mine
        limited = frozenset(self._terms.parties)
        return limited if mine is None else mine & limited

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of the rows that involve at least one of the parties, or none at all."""
        if self.parties is None:
            return rows
        model: Any = rows.model
        return model.involving(rows, self.parties)

    def usable(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of the rows that involve no other parties: only these may be run, or be part of something."""
        if self.parties is None:
            return rows
        model: Any = rows.model
        return model.involving(rows, self.parties, wholly=True)

    def sees(self, row: Model) -> bool:
        """Return whether a row that is in the database is visible."""
        return self.parties is None or self.visible(type(row)._default_manager.filter(pk=row.pk)).exists()

    def covers(self, row: Any) -> bool:
        """Return whether all parties that a row involves are among the parties: only then may it be written or run."""
        return self.parties is None or self.covers_all(row.involved())

    def covers_all(self, names: Iterable[str] | None) -> bool:
        """Return whether all these parties are among the parties. ``names``: None for all that there may ever be."""
        return self.parties is None or (names is not None and self.parties.issuperset(names))
