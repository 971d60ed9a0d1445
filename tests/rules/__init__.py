"""The table of rules: every rule of the four documents, with a case that passes and one that fails."""

from tests.rules import cluster, components, devices, structure, tasks, vertical

RULES = [*cluster.RULES, *structure.RULES, *devices.RULES, *tasks.RULES, *components.RULES, *vertical.RULES]
