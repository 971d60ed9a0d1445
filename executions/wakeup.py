"""A nudge that ends the coordinator's wait: a submission need not wait for its next look."""

from __future__ import annotations

import logging

from redis.exceptions import RedisError

from executions.connection import redis_connection
from workers.contract.connection import trouble

WAKE_STREAM = "controlplane:wake"
log = logging.getLogger(__name__)


def wake_coordinator() -> None:
    """Best effort: the coordinator looks at the database every second in any case."""
    try:
        redis_connection().xadd(WAKE_STREAM, {"": ""}, maxlen=1)
    except (RedisError, OSError) as error:
        log.warning("the coordinator was not woken: %s", trouble(error))
