"""Datasets: the tables that parties have, by name and columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import QuerySet
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from controlplane.language import translated
from controlplane.models.party import Party
from controlplane.models.protection import protect
from controlplane.models.versioned import Versioned
from workers.contract.catalogue import TABLE
from workers.contract.documents import DATASET_NAME, column_problems
from workers.contract.drift import drift

#: Longest alignment, in characters.
ALIGNMENT_LENGTH = 200
COLUMN_TYPES = ("int", "float", "str", "bool")

#: What is known of the table on the party's host, as against what is registered.
AS_REGISTERED, DIFFERS = gettext_noop("as registered"), gettext_noop("differs")
UNREADABLE, NOT_REPORTED, OUTPUT = gettext_noop("unreadable"), gettext_noop("not reported"), gettext_noop("output")
STATES = (AS_REGISTERED, DIFFERS, UNREADABLE, NOT_REPORTED, OUTPUT)


class Dataset(Versioned):
    """A table that a party has: its name and columns. Only the party's own host knows where the file is."""

    party = models.ForeignKey(Party, on_delete=protect, related_name="datasets")
    name = models.CharField(
        max_length=128,
        validators=[
            RegexValidator(
                DATASET_NAME.replace("$", r"\Z"),
                _("Use letters, digits, _, . and -, beginning with a letter or digit."),
            )
        ],
        help_text=_("The name under which party.toml on the party's host registers the table."),
    )
    description = models.CharField(max_length=200, blank=True)
    columns = models.JSONField(
        default=dict,
        help_text=_('Column name to type (int, float, str or bool), such as {"uid": "str", "age": "int"}.'),
    )
    kind = models.CharField(
        max_length=64,
        default=TABLE,
        editable=False,
        help_text=_("table, or the kind of what an execution kept, such as a model."),
    )
    key_columns = models.JSONField(
        default=list, blank=True, help_text=_('Columns that identify a row, such as ["uid"].')
    )
    produced_by = models.UUIDField(
        null=True, blank=True, editable=False, help_text=_("Execution that made it, if it is an output.")
    )

    alignment = models.CharField(
        max_length=ALIGNMENT_LENGTH,
        blank=True,
        editable=False,
        help_text=_("Id of the execution that put the rows in their order, or declared: and the name in party.toml."),
    )
    reported_columns = models.JSONField(
        null=True, blank=True, editable=False, help_text=_("Columns as the party's host reported them.")
    )
    reported_rows = models.PositiveBigIntegerField(null=True, blank=True, editable=False)
    reported_at = models.DateTimeField(null=True, blank=True, editable=False)
    reported_problem = models.CharField(
        max_length=500, blank=True, editable=False, help_text=_("Reason why the party's host cannot read it.")
    )

    differs = models.BooleanField(
        default=False,
        editable=False,
        help_text=_("Whether the reported columns differ from the registered ones: kept for the list's filter."),
    )

    class Meta:
        ordering = ["party__name", "name"]
        constraints = [models.UniqueConstraint(fields=["party", "name"], name="one_dataset_of_a_name_per_party")]
        indexes = [
            models.Index(fields=["kind"], name="datasets_by_kind"),
            models.Index(fields=["id"], name="datasets_that_differ", condition=models.Q(differs=True)),
        ]

    def __str__(self) -> str:
        return f"{self.party.name}/{self.name}"

    @classmethod
    def involving(cls, rows: QuerySet[Any], parties: Collection[str], wholly: bool = False) -> QuerySet[Any]:
        return rows.filter(party__name__in=parties)

    def involved(self) -> set[str]:
        return {self.party.name}

    def clean(self) -> None:
        columns: Any = self.columns
        if self.kind == TABLE and (not isinstance(columns, dict) or not columns):
            raise ValidationError(
                {"columns": gettext('Give at least one column with its type, such as {"uid": "str"}.')}
            )
        if problems := column_problems(columns):
            raise ValidationError(
                {"columns": [translated(f"{problem[:1].upper()}{problem[1:]}.") for problem in problems[:20]]}
            )
        wrong = [f"{name!r}" for name, kind in columns.items() if kind not in COLUMN_TYPES]
        if wrong:
            raise ValidationError(
                {
                    "columns": gettext("{wrong}: the type should be one of {column_types}.").format(
                        wrong=", ".join(wrong), column_types=", ".join(COLUMN_TYPES)
                    )
                }
            )
        keys: Any = self.key_columns
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValidationError({"key_columns": gettext('Give a list of column names, such as ["uid"].')})
        if len(set(keys)) != len(keys):
            raise ValidationError({"key_columns": gettext("Names a column twice; name each once.")})
        if missing := [key for key in keys if key not in columns]:
            raise ValidationError(
                {"key_columns": gettext("{missing}: not among the columns.").format(missing=", ".join(missing))}
            )

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.differs = self.columns_differ
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "differs"}
        super().save(*args, **kwargs)

    @property
    def _differences(self) -> list[Any]:
        return drift(self.columns, self.reported_columns or self.columns)

    @property
    def columns_differ(self) -> bool:
        """Return whether the reported columns differ from the registered ones. Who writes either without ``save``
        stores this in ``differs``."""
        return bool(self._differences)

    @property
    def drift(self) -> list[str]:
        """Return how the table on the party's host differs from what is registered here, as far as the host has
        reported it."""
        if self.reported_problem:
            return [self.reported_problem]
        return [line for line, _ in self._differences]

    @classmethod
    def in_state(cls, rows: QuerySet[Any], state: str) -> QuerySet[Any]:
        """Return those of the rows that are in one of the STATES; none for another word."""
        reported = rows.filter(reported_at__isnull=False)
        found = {
            UNREADABLE: reported.exclude(reported_problem=""),
            DIFFERS: reported.filter(reported_problem="", differs=True),
            AS_REGISTERED: reported.filter(reported_problem="", differs=False),
            OUTPUT: rows.filter(reported_at=None, produced_by__isnull=False),
            NOT_REPORTED: rows.filter(reported_at=None, produced_by=None),
        }
        return found.get(state, rows.none())

    @property
    def state(self) -> str:
        """Return which of the STATES it is in."""
        if self.reported_at is None:
            return OUTPUT if self.produced_by else NOT_REPORTED
        if self.reported_problem:
            return UNREADABLE
        return DIFFERS if self.columns_differ else AS_REGISTERED
