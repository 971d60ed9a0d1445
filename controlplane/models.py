"""What an operator registers: parties, their datasets, device configurations and tasks; and the site itself."""

from __future__ import annotations

from typing import Any, get_args

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now

from controlplane.field_errors import document_errors
from controlplane.vault import protect
from controlplane.versions import Versioned
from workers.contract.catalogue import TABLE, Security
from workers.contract.documents import DATASET_NAME, PARTY_NAME, column_problems
from workers.contract.drift import drift
from workers.contract.endpoints import filled_at_dispatch
from workers.contract.problems import DocumentsInvalid, Problem, closest
from workers.contract.registry import further_layers
from workers.contract.secrets import read_public_key
from workers.contract.validation import Run, parse_document, validate

#: Longest alignment, in characters.
ALIGNMENT_LENGTH = 200
COLUMN_TYPES = ("int", "float", "str", "bool")
PRODUCTION: Security = "production"


class Site(Versioned):
    """This installation: which environment it is, and how strict its checks of security are. One row, or none yet."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    environment = models.CharField(
        max_length=40, blank=True, help_text="Name of the environment, shown on every page, such as dev or prod."
    )
    security = models.CharField(
        max_length=20,
        choices=[(tier, tier) for tier in get_args(Security)],
        default=PRODUCTION,
        help_text="production: every check of security holds. trial: for trials, with data that is no secret.",
    )

    class Meta:
        verbose_name = "environment"
        verbose_name_plural = "environment"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="there_is_one_site")]

    def __str__(self) -> str:
        return self.environment or "this site"

    @classmethod
    def current(cls) -> Site:
        return cls.objects.first() or cls()


def check_public_key(value: str) -> None:
    """Raises ValidationError."""
    try:
        read_public_key(value)
    except ValueError:
        raise ValidationError(
            "This is no public key; enter what `manage.py party_key` printed on the party's host, x25519:..."
        ) from None


class Party(Versioned):
    """An organisation that takes part, with the host on which its workers listen for the other parties."""

    name = models.CharField(
        max_length=32,
        unique=True,
        validators=[
            RegexValidator(
                PARTY_NAME.replace("$", r"\Z"), "Use a-z, 0-9, _ and -, beginning with a letter, such as alice."
            )
        ],
        help_text="Short name, such as alice: its workers then start as `manage.py rqworker alice`.",
    )
    description = models.CharField(max_length=200, blank=True)
    address = models.CharField(
        max_length=253,
        validators=[
            RegexValidator(
                r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)\Z", "Give a host name or an IP address alone, IPv6 in brackets."
            )
        ],
        help_text="Host name or IP address at which the other parties reach this party's workers.",
    )
    port_first = models.PositiveIntegerField(
        "first port",
        validators=[MinValueValidator(1024), MaxValueValidator(65535)],
        help_text="Ports are leased to executions from this range; open it to the other parties. From 1024 to 65535.",
    )
    port_last = models.PositiveIntegerField(
        "last port",
        validators=[MinValueValidator(1024), MaxValueValidator(65535)],
        help_text="An execution takes a port for the cluster and one for the SPU while it runs: twenty are enough for "
        "ten at once. Up to 65535.",
    )
    public_key = models.CharField(
        max_length=100,
        blank=True,
        validators=[check_public_key],
        help_text="Seals secrets that are meant for this party: what `manage.py party_key` printed on its host. "
        "Needed for tasks whose documents have secrets.",
    )

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "parties"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.pk and Party.objects.filter(pk=self.pk).exclude(name=self.name).exists():
            # Documents, its own party.toml, its queue and its history go by the name
            raise ValidationError({"name": "A party keeps its name; register another party instead."})
        if not (self.port_first and self.port_last):
            return
        if self.port_last < self.port_first:
            raise ValidationError({"port_last": f"The last port comes before the first, {self.port_first}."})
        if self.port_last == self.port_first:
            raise ValidationError({"port_last": "Each execution takes two ports: give a range of two or more."})
        neighbours = Party.objects.filter(
            address=self.address, port_first__lte=self.port_last, port_last__gte=self.port_first
        ).exclude(pk=self.pk)
        if other := neighbours.first():
            raise ValidationError(
                {
                    "port_first": f"The range overlaps that of {other.name} ({other.port_first}-{other.port_last}) "
                    "on the same address: choose ports of its own."
                }
            )


class Dataset(Versioned):
    """A table that a party has: its name and columns. Where it lies only the party's own host knows."""

    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(
        max_length=128,
        validators=[
            RegexValidator(
                DATASET_NAME.replace("$", r"\Z"), "Use letters, digits, _, . and -, beginning with a letter or digit."
            )
        ],
        help_text="The name under which party.toml on the party's host registers the table.",
    )
    description = models.CharField(max_length=200, blank=True)
    columns = models.JSONField(
        default=dict, help_text='Column name to type (int, float, str or bool), such as {"uid": "str", "age": "int"}.'
    )
    kind = models.CharField(
        max_length=64,
        default=TABLE,
        editable=False,
        help_text="table, or what an execution kept that is no table: a model, say.",
    )
    key_columns = models.JSONField(default=list, blank=True, help_text='Columns that identify a row, such as ["uid"].')
    produced_by = models.UUIDField(
        null=True, blank=True, editable=False, help_text="The execution whose output it is, if it is one."
    )

    alignment = models.CharField(
        max_length=ALIGNMENT_LENGTH,
        blank=True,
        editable=False,
        help_text="What put the rows in their order: the execution's id, or declared: and the name in party.toml.",
    )
    reported_columns = models.JSONField(
        null=True, blank=True, editable=False, help_text="As the party's own host found them, where it says so."
    )
    reported_rows = models.PositiveBigIntegerField(null=True, blank=True, editable=False)
    reported_at = models.DateTimeField(null=True, blank=True, editable=False)
    reported_problem = models.CharField(
        max_length=500, blank=True, editable=False, help_text="Why the party's host cannot read it."
    )

    class Meta:
        ordering = ["party__name", "name"]
        constraints = [models.UniqueConstraint(fields=["party", "name"], name="one_dataset_of_a_name_per_party")]

    def __str__(self) -> str:
        return f"{self.party.name}/{self.name}"

    def clean(self) -> None:
        columns: Any = self.columns
        if self.kind == TABLE and (not isinstance(columns, dict) or not columns):
            raise ValidationError({"columns": 'Give at least one column with its type, such as {"uid": "str"}.'})
        if problems := column_problems(columns):
            raise ValidationError({"columns": [f"{problem[:1].upper()}{problem[1:]}." for problem in problems[:20]]})
        wrong = [f"{name!r}" for name, kind in columns.items() if kind not in COLUMN_TYPES]
        if wrong:
            raise ValidationError(
                {"columns": f"{', '.join(wrong)}: the type should be one of {', '.join(COLUMN_TYPES)}."}
            )
        keys: Any = self.key_columns
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValidationError({"key_columns": 'Give a list of column names, such as ["uid"].'})
        if len(set(keys)) != len(keys):
            raise ValidationError({"key_columns": "Names a column twice; name each once."})
        if missing := [key for key in keys if key not in columns]:
            raise ValidationError({"key_columns": f"{', '.join(missing)}: not among the columns."})

    @property
    def drift(self) -> list[str]:
        """How the table on the party's host differs from what is registered here, as far as the host has said."""
        if self.reported_problem:
            return [self.reported_problem]
        return [line for line, _ in drift(self.columns, self.reported_columns or self.columns)]


class Configuration(Versioned):
    """A named, reusable document of one layer."""

    layer: Any

    name = models.CharField(max_length=100, unique=True)
    description = models.CharField(max_length=200, blank=True)
    document = models.JSONField(default=dict, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        _, problems = parse_document(self.layer, self.document)
        self._settle(problems)

    def _settle(self, problems: list[Problem]) -> None:
        """Raise what is wrong, or make the document what may be stored."""
        if not problems:
            self.document, problems = protect(self.layer, self.document, lambda: stored_document(self))
        if problems:
            raise document_errors({"document": problems})


class ClusterConfig(Configuration):
    """Layer 1, ``sf_init_config``: who takes part and how they talk. Addresses come from the parties at dispatch."""

    layer = "sf_init_config"

    class Meta(Configuration.Meta):
        verbose_name = "cluster configuration"

    def clean(self) -> None:
        cluster, problems = parse_document(self.layer, self.document)
        if cluster is not None:
            problems += filled_at_dispatch(cluster)
            known = set(Party.objects.filter(name__in=cluster.parties).values_list("name", flat=True))
            problems += [
                Problem(f"parties.{i}", f"no party {party!r} is registered", "register it under Parties first")
                for i, party in enumerate(cluster.parties)
                if party not in known
            ]
        self._settle(problems)


class SPUConfig(Configuration):
    """Layer 2, ``spu_config``: the MPC device. Nodes and ports are filled in at dispatch."""

    layer = "spu_config"

    class Meta(Configuration.Meta):
        verbose_name = "SPU configuration"


class HEUConfig(Configuration):
    """Layer 3, ``heu_config``: the homomorphic encryption device."""

    layer = "heu_config"

    class Meta(Configuration.Meta):
        verbose_name = "HEU configuration"


class DeviceConfig(Configuration):
    """The layer of a further device. Tasks name it, so it keeps its name and its layer while they do."""

    layer = models.CharField(max_length=64, help_text="Which device it configures.")

    class Meta(Configuration.Meta):
        verbose_name = "device configuration"

    def clean(self) -> None:
        if self.layer not in further_layers():
            raise ValidationError({"layer": f"There is no such device; {closest(self.layer, further_layers())}"})
        before = DeviceConfig.objects.filter(pk=self.pk).first()
        if before and (before.name, before.layer) != (self.name, self.layer):
            users = [task.name for task in Task.objects.only("name", "devices") if before.is_named_by(task)]
            if users:
                raise ValidationError(f"Tasks name it, so it keeps its name and device: {', '.join(users[:20])}.")
        super().clean()

    def is_named_by(self, task: Task) -> bool:
        return bool(task.devices.get(self.layer) == self.name)


class RunOptions(models.Model):
    """How an execution is run, as opposed to what it computes: a task has them, and each execution its own."""

    priority = models.SmallIntegerField(
        default=0,
        validators=[MinValueValidator(-32768), MaxValueValidator(32767)],
        help_text="Higher goes first. A point counts as much as a minute of waiting, so that nothing waits for ever.",
    )
    run_limit_seconds = models.PositiveIntegerField(
        default=3600,
        validators=[MinValueValidator(1), MaxValueValidator(2**31 - 1)],
        help_text="A run that takes longer is stopped and fails.",
    )
    dispatch_limit_seconds = models.PositiveIntegerField(
        default=24 * 3600,
        validators=[MinValueValidator(1), MaxValueValidator(2**31 - 1)],
        help_text="An execution that is not dispatched within this time fails.",
    )
    network_retries = models.PositiveSmallIntegerField(
        default=3, validators=[MaxValueValidator(3)], help_text="Retries after network errors, at most 3."
    )
    resource_retries = models.PositiveSmallIntegerField(
        default=5,
        validators=[MaxValueValidator(5)],
        help_text="Retries while a port, memory or disk is short, at most 5.",
    )

    class Meta:
        abstract = True

    @classmethod
    def option_names(cls) -> list[str]:
        return [field.name for field in RunOptions._meta.local_fields]

    def options(self) -> dict[str, int]:
        """The options by name, as an execution is submitted with."""
        return {name: getattr(self, name) for name in self.option_names()}


class Task(Versioned, RunOptions):
    """A computation ready to be executed as often as wanted: a cluster, its devices and the task document."""

    name = models.CharField(max_length=100, unique=True)
    description = models.CharField(max_length=200, blank=True)
    cluster = models.ForeignKey(ClusterConfig, on_delete=models.PROTECT, related_name="tasks")
    spu = models.ForeignKey(
        SPUConfig,
        on_delete=models.PROTECT,
        related_name="tasks",
        null=True,
        blank=True,
        verbose_name="SPU",
        help_text="Leave empty to switch the SPU off.",
    )
    heu = models.ForeignKey(
        HEUConfig,
        on_delete=models.PROTECT,
        related_name="tasks",
        null=True,
        blank=True,
        verbose_name="HEU",
        help_text="Leave empty to switch the HEU off.",
    )
    devices = models.JSONField(
        default=dict,
        blank=True,
        help_text='Further devices: layer to the name of a device configuration, such as {"gpu_config": "small"}.',
    )
    document = models.JSONField(
        "task", default=dict, help_text="Task type, datasets, outputs and the parameters of the task type."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def documents(self) -> dict[str, Any]:
        """The documents as they would be submitted now, further devices' included. Raises DocumentsInvalid where it
        names a device configuration that there is not."""
        return {
            "sf_init_config": self.cluster.document,
            "spu_config": self.spu.document if self.spu else {"enable_spu": False},
            "heu_config": self.heu.document if self.heu else {"enable_heu": False},
            "task_config": self.document,
        } | self._device_documents()

    def _device_documents(self) -> dict[str, Any]:
        if not self.devices:  # most tasks have none: no query
            return {}
        if not isinstance(self.devices, dict):
            raise DocumentsInvalid([Problem("devices", "is not a JSON object", "should name a configuration by layer")])
        configs = {(c.layer, c.name): c.document for c in DeviceConfig.objects.filter(layer__in=self.devices)}
        problems = []
        for layer, name in self.devices.items():
            if layer not in further_layers():
                problems.append(Problem(f"devices.{layer}", "is no further device", closest(layer, further_layers())))
            elif (layer, name) not in configs:
                known = [known for of, known in configs if of == layer]
                problems.append(Problem(f"devices.{layer}", "names no configuration", closest(str(name), known)))
        if problems:
            raise DocumentsInvalid(problems)
        return {layer: configs[layer, name] for layer, name in self.devices.items()}

    def validate(self) -> Run:
        """The typed run, if what other tasks leave behind were there. Raises DocumentsInvalid with all problems of the
        four documents together."""
        from controlplane.catalogue import ComposingCatalogue

        return validate(self.documents(), ComposingCatalogue(self))

    def clean(self) -> None:
        before = Task.objects.filter(pk=self.pk).values_list("name", flat=True).first() if self.pk else None
        if before and before != self.name and (users := Pipeline.naming(before)):
            named = ", ".join(str(pipeline) for pipeline in users[:20])
            raise ValidationError({"name": f"Pipelines name it, so it keeps its name: {named}."})
        if self.cluster_id is None:
            return
        field_of = {"sf_init_config": "cluster", "spu_config": "spu", "heu_config": "heu", "task_config": "document"}
        field_of |= dict.fromkeys(("devices", *further_layers()), "devices")
        try:
            self.validate()
        except DocumentsInvalid as error:
            found: dict[str, list[Problem]] = {}
            for problem in error.problems:
                layer, _, rest = problem.path.partition(".")
                if layer in further_layers():  # the field holds several
                    rest = problem.path
                found.setdefault(field_of[layer], []).append(Problem(rest, problem.wrong, problem.right))
            raise document_errors(found) from None
        self.document, problems = protect("task_config", self.document, lambda: stored_document(self))
        if problems:
            raise document_errors({"document": problems})


def stored_document(row: Configuration | Task) -> Any:
    """The document of a row as the database has it."""
    return type(row)._base_manager.filter(pk=row.pk).values_list("document", flat=True).first()


# Registered with Django by being imported from here; they need what is above
from controlplane.pipeline_models import Pipeline, Schedule  # noqa: E402, F401
