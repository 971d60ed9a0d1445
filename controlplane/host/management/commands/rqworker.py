"""django-rq's rqworker, with error messages that say what is wrong and where to correct it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django_rq.management.commands.rqworker import Command as RQWorker
from redis.exceptions import RedisError

from controlplane.environment import environment
from controlplane.management.redis import connect_to_redis
from workers.contract.connection import trouble
from workers.contract.errors import ConfigError
from workers.host.party import PartyHost
from workers.runtime.slots import Slots

#: More jobs at once than any host computes.
MOST_SLOTS = 256


class Command(RQWorker):
    help = (
        "Run a worker of this host's party: `rqworker alice`. Needs party.toml (PARTY_TOML) and REDIS_URL, no database."
    )

    def add_arguments(self, parser: Any) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--slots",
            type=int,
            default=1,
            help="Number of jobs that are done at once (1), each by a worker of its own.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if len(args) != 1:
            raise CommandError("Name one party, the one of this host's party.toml: `manage.py rqworker alice`.")
        try:
            host = PartyHost.load(environment.party_toml)
            if host.name != args[0]:
                raise ConfigError(
                    f"{environment.party_toml} is of party {host.name}: start this worker as `rqworker {host.name}`"
                )
            # Checked here, since django-rq's command shows a refused connection in redis-py's own words
            connect_to_redis().ping()
            if (slots := options.pop("slots")) == 1:
                super().handle(*args, **options)
            else:
                raise SystemExit(self._slots(args[0], slots, options).run())
        except ConfigError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:  # before it began to work
            raise SystemExit(130) from None
        except RedisError as error:
            raise CommandError(f"{trouble(error)}.") from None

    def _slots(self, party: str, count: int, options: dict[str, Any]) -> Slots:
        """Return the workers of so many slots. Raises CommandError for a number that makes no sense."""
        if not 1 <= count <= MOST_SLOTS:
            raise CommandError(f"--slots is {count}; it is a number from 1 to {MOST_SLOTS}.")
        if pid := options.pop("pid"):
            Path(pid).expanduser().write_text(str(os.getpid()))
        name = options.pop("name")

        def work(slot: int) -> None:
            super(Command, self).handle(party, **options, pid=None, name=name and f"{name}-{slot}")

        for_ever = not any(options.get(name) for name in ("burst", "max_jobs", "max_idle_time"))
        return Slots(party, count, work, [sys.executable, "manage.py", "rqworker", party], for_ever=for_ever)
