"""The one long-running command of the control plane: it listens, advances pipelines, dispatches, and recovers."""

from __future__ import annotations

import faulthandler
import logging
import signal
import time
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, close_old_connections, connections
from django.db.backends.signals import connection_created
from redis.exceptions import RedisError

from controlplane.management.database import database_trouble
from controlplane.management.redis import connect_to_redis
from executions.coordinator import deliveries
from executions.coordinator.deliveries import Sender
from executions.coordinator.isolation import tell
from executions.coordinator.key import NoKey, own_key
from executions.coordinator.locks import bound_pauses
from executions.coordinator.loop import Coordinator
from executions.coordinator.posting import Postman
from executions.models import Execution
from workers.contract.connection import trouble
from workers.contract.errors import ConfigError

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Listen to the parties, dispatch executions, go on with pipelines and schedules, recover what is lost. "
        "Run one or more, under a supervisor."
    )
    #: What the log was told last of Redis or the database.
    _said = ""

    def handle(self, *args: Any, **options: Any) -> None:
        faulthandler.register(signal.SIGUSR1, file=2)  # where it is, to the log, as with workers
        try:
            own_key()
            connect_to_redis()
        except (NoKey, ConfigError) as error:
            raise CommandError(f"{error}.") from None
        stopping: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, frame: stopping.append(n))
        connection_created.connect(bound_pauses)
        connections.close_all()  # one that was made before that
        coordinator, postman = Coordinator(), Postman()
        senders = [
            Sender("notifications", deliveries.step, interval=2.0), Sender("webhooks", postman.step, interval=0.5)
        ]  # fmt: skip
        for sender in senders:
            sender.start()
        self.stdout.write("coordinating; stop with Ctrl-C")
        self.stdout.flush()
        busy = False
        while not stopping:
            try:
                # While anything runs, look often enough to notice a party that sends no events
                busy_now = busy or Execution.objects.active().exists()
                busy = coordinator.step(200 if busy_now else Coordinator.IDLE_MS)
                self._said = ""
            except RedisError as error:
                self._say(trouble(error))
                self._shielded(partial(coordinator.without_redis, error))
                time.sleep(0.5)
            except (DatabaseError, InterfaceError) as error:
                self._say(database_trouble(error))
                close_old_connections()
                time.sleep(0.5)
            except Exception as error:  # it must not end for a fault of ours: nobody else looks after what runs
                tell("a step of the coordinator", error)
                time.sleep(0.5)
        for sender in senders:
            sender.stop()
        postman.finish()

    def _say(self, trouble: str) -> None:
        """Log what is wrong, once for as long as it is."""
        if trouble != self._said:
            log.warning("%s", trouble)
        self._said = trouble

    @staticmethod
    def _shielded(step: Any) -> None:
        try:
            step()
        except (DatabaseError, InterfaceError):
            close_old_connections()
