from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from redis import Redis

from controlplane.roles import OPERATOR
from tests.walked import Circle, in_role


@pytest.fixture
def circle(connection: Redis, db: None) -> Circle:
    """alice and bob, beside carol and dave, of whom nothing may be told."""
    mine = Circle.make("alice", "bob", 20000)
    Circle.make("carol", "dave", 22000)
    return mine


@pytest.fixture
def operator(circle: Circle) -> User:
    return in_role("operator", OPERATOR, circle.names)
