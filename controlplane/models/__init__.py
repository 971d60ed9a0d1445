"""What an operator registers: parties, their datasets, configurations, tasks, pipelines and schedules; and the site."""

from controlplane.models import usage  # noqa: F401  its receivers keep what is in use from being deleted or renamed
from controlplane.models.account import Account, Channel, Notice, Outlet
from controlplane.models.audit import AuditEntry
from controlplane.models.configuration import ClusterConfig, Configuration, DeviceConfig, HEUConfig, SPUConfig
from controlplane.models.dataset import ALIGNMENT_LENGTH, COLUMN_TYPES, Dataset
from controlplane.models.grant import PartyGrant
from controlplane.models.kept_answer import KeptAnswer
from controlplane.models.party import Party, check_public_key, check_signing_keys
from controlplane.models.party_set import Parties, PartySet, PartySetMember
from controlplane.models.pause import Pause
from controlplane.models.pipeline import Pipeline
from controlplane.models.publication import NotTaken, Publication
from controlplane.models.saved_filter import MOST_SAVED, SavedFilter
from controlplane.models.schedule import Schedule, check_time_zone
from controlplane.models.second_factor import RecoveryCode, SecondFactor
from controlplane.models.sign_in import SignInTries
from controlplane.models.site import PRODUCTION, Site
from controlplane.models.task import RunOptions, Task
from controlplane.models.token import TokenTerms

__all__ = [
    "ALIGNMENT_LENGTH", "COLUMN_TYPES", "MOST_SAVED", "PRODUCTION", "Account", "AuditEntry", "Channel",
    "ClusterConfig", "Configuration", "Dataset", "DeviceConfig", "HEUConfig", "KeptAnswer", "NotTaken", "Notice",
    "Outlet", "Parties", "Party", "PartyGrant", "PartySet", "PartySetMember", "Pause", "Pipeline", "Publication",
    "RecoveryCode", "RunOptions", "SPUConfig", "SavedFilter", "Schedule", "SecondFactor", "SignInTries", "Site",
    "Task", "TokenTerms", "check_public_key", "check_signing_keys", "check_time_zone",
]  # fmt: skip
