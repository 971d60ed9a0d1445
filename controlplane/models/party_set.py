"""Which parties take part together, stored so that lists of millions of rows are filtered by one indexed column."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import sha256

from django.db import models, transaction

#: Names of parties; None for all parties.
Parties = frozenset[str] | None


class PartySet(models.Model):
    """Parties that take part together. Each combination is stored once, and all rows that involve it refer to it.

    There are few combinations, however much is run, so "what involves alice" is a short list of keys, and the database
    knows how many rows each of them has.
    """

    digest = models.CharField(max_length=64, unique=True)
    names = models.JSONField(default=list)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return ", ".join(self.names)

    @classmethod
    def of(cls, names: Iterable[str]) -> PartySet:
        """Return the set of these parties; makes it if it is the first time."""
        found = sorted({str(name) for name in names})
        digest = sha256(",".join(found).encode()).hexdigest()
        if known := cls.objects.filter(digest=digest).first():
            return known
        with transaction.atomic():
            made, is_new = cls.objects.get_or_create(digest=digest, defaults={"names": found})
            if is_new:
                PartySetMember.objects.bulk_create(PartySetMember(party_set=made, party=name) for name in found)
        return made

    @classmethod
    def keys(cls, names: Collection[str], *, wholly: bool = False) -> list[int]:
        """Return the keys of the sets that have one of these parties; ``wholly``: and no others."""
        # A list and not a subquery: the database then plans with the number of rows that each of the keys has
        members = PartySetMember.objects.order_by()
        found = set(members.filter(party__in=names).values_list("party_set_id", flat=True))
        if wholly:
            others = members.filter(party_set__in=found).exclude(party__in=names)
            found -= set(others.values_list("party_set_id", flat=True))
        return sorted(found)


class PartySetMember(models.Model):
    """One party of a set."""

    party_set = models.ForeignKey(PartySet, on_delete=models.CASCADE, related_name="members")
    #: Not a foreign key: what was run names parties that were deleted since.
    party = models.CharField(max_length=253)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["party", "party_set"], name="a_party_is_in_a_set_once")]

    def __str__(self) -> str:
        return f"{self.party} in {self.party_set_id}"
