"""The admin of what an operator registers. Django imports this package alone, and so it imports the rest."""

from controlplane.admin import configurations, parties, pipelines, site, tasks, tokens, users  # noqa: F401
