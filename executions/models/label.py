"""Labels of executions, by which lists are filtered."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.db import models
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from executions.models.execution import Execution

MOST = 20
KEY, VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}"), re.compile(r"[^\x00-\x1f\x7f]{0,100}")


_no_null = ProhibitNullCharactersValidator()


class Label(models.Model):
    """A key and a value that whoever submitted an execution gave it. The execution has all of its labels, too; here
    they are found, in the order of the lists."""

    execution = models.ForeignKey("executions.Execution", on_delete=models.CASCADE, related_name="label_rows")
    key = models.CharField(max_length=63)
    value = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(help_text=_("Time of the execution's submission."))

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["execution", "key"], name="a_label_is_given_once")]
        indexes = [
            models.Index(fields=["key", "value", "-created_at", "-execution"], name="labels_newest_first"),
            models.Index(fields=["key", "-created_at", "-execution"], name="label_keys_newest_first"),
        ]

    def __str__(self) -> str:
        return f"{self.key}:{self.value}"

    @classmethod
    def keep(cls, execution: Execution) -> None:
        """Store the labels of a new execution."""
        at = execution.created_at
        rows = [Label(execution=execution, key=k, value=v, created_at=at) for k, v in execution.labels.items()]
        Label.objects.bulk_create(rows)

    @staticmethod
    def terms(texts: Iterable[str]) -> list[tuple[str, str | None]]:
        """Return what is asked for by texts ``key:value``, or ``key`` for any value; empty ones ask for nothing.

        Raises ValidationError for a text without a key, and for more than an execution can have.
        """
        parts = [text.partition(":") for text in texts if text]
        if len(parts) > MOST:
            raise ValidationError(_too_many())
        for text in itertools.chain(*parts):
            _no_null(text)  # which PostgreSQL does not take
        if not all(key for key, *_ in parts):
            raise ValidationError(gettext("names no key; give a label as key:value, or a key alone"))
        return [(key, value if colon else None) for key, colon, value in parts]

    @classmethod
    def having(cls, rows: QuerySet[Execution], terms: list[tuple[str, str | None]]) -> QuerySet[Execution]:
        """Return the executions that have all these labels; a value of None stands for any.

        They have ``labelled_at``, by which to order them: by the first label's rows, in the order of their index.
        However many there are of it, a page then takes as many rows as it shows.
        """
        (key, value), *others = terms
        wanted = {"label_rows__key": key} | ({} if value is None else {"label_rows__value": value})
        rows = rows.filter(**wanted).annotate(labelled_at=F("label_rows__created_at"))
        for other, text in others:
            found = cls.objects.filter(execution=OuterRef("pk"), key=other)
            rows = rows.filter(Exists(found if text is None else found.filter(value=text)))
        return rows


def check_labels(labels: Any) -> None:
    """Raise ValidationError, with a text for each key, unless these are labels."""
    if not isinstance(labels, Mapping):
        raise ValidationError(gettext('Labels are an object of keys and texts, such as {"team": "risk"}.'))
    if len(labels) > MOST:
        raise ValidationError(_too_many())
    wrong = {}
    for key, value in labels.items():
        if not isinstance(key, str) or not KEY.fullmatch(key):
            wrong[str(key)[:63]] = gettext(
                "A key begins with a letter or digit and has up to 63 letters, digits, dots, dashes, underscores and "
                "slashes."
            )
        elif not isinstance(value, str) or not VALUE.fullmatch(value):
            wrong[key] = gettext("A value is a text of up to 100 characters in one line.")
    if wrong:
        raise ValidationError(wrong)


def _too_many() -> str:
    return ngettext("There may be %(most)d label.", "There may be up to %(most)d labels.", MOST) % {"most": MOST}
