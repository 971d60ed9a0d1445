"""A database and a Valkey of the benchmark's own, and Django in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests import stack


@contextmanager
def own_site() -> Iterator[None]:
    """Migrated and empty; stopped and removed at the end."""
    import django
    from django.core.management import call_command

    stack.pytest_configure()
    try:
        django.setup()
        call_command("migrate", verbosity=0)
        yield
    finally:
        stack.pytest_unconfigure()
