"""The admin of what was run. Django imports this package alone, and so it imports the rest."""

from executions.admin import (  # noqa: F401
    approvals,
    audit,
    dead_letters,
    executions,
    parties,
    pipelines,
    tasks,
    webhooks,
)
