"""Removes from Redis what dead coordinators and deleted parties left there."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.utils import timezone
from redis import Redis

from controlplane.models import Party
from executions.coordinator.listener import GROUP
from executions.redis import WAKE_STREAM
from workers.contract.keys import ports_wanted, requests_of, stream_of

#: A coordinator reads each second. One that has not read for so long is dead, or was stopped: if it goes on, its next
#: read makes its consumer anew.
DEAD_AFTER_MS = 3_600_000
#: A party is gone for so long before its keys go: until then a coordinator may still wait at its stream.
GONE_FOR = timedelta(minutes=1)
#: Streams that are looked at in one round trip, and keys that one SCAN goes through.
STREAMS, KEYS = 50, 1000

#: In one step: a consumer with entries that nobody has acknowledged is left, or they would be lost. Others take these
#: over in seconds.
REMOVE_DEAD = """
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return 0 end
local removed = 0
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if group[2] == ARGV[1] then
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
      local told = {}
      for place = 1, #consumer, 2 do told[consumer[place]] = consumer[place + 1] end
      if told.pending == 0 and told.idle > tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], told.name)
        removed = removed + 1
      end
    end
  end
end
return removed
"""

#: What RQ keeps of a queue, and in which sets its name is.
RQ_KEYS = (
    "rq:queue:{0}", "rq:queue:{0}:intermediate", "rq:wip:{0}", "rq:finished:{0}", "rq:failed:{0}", "rq:deferred:{0}",
    "rq:ready:{0}", "rq:scheduled:{0}", "rq:canceled:{0}", "rq:clean_registries:{0}", "rq:workers:{0}",
)  # fmt: skip
RQ_QUEUES = "rq:queues"
#: A job's key names the party, the execution and the attempt.
JOB = re.compile(r"rq:job:(?P<party>.+)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-\d+")


class Leftovers:
    """One pass, a round trip or two in each step."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self._gone = deleted_parties()
        self._streams = [*map(stream_of, Party.objects.values_list("name", flat=True)), WAKE_STREAM]
        self._parties = sorted(self._gone)
        #: Where the search for jobs of deleted parties goes on; None once it has ended.
        self._cursor: int | None = 0 if self._gone else None
        self.consumers = self.keys = 0

    def step(self) -> bool:
        """Remove some. Returns whether anything may be left. Raises RedisError."""
        if self._streams:
            some, self._streams = self._streams[:STREAMS], self._streams[STREAMS:]
            with self.connection.pipeline(transaction=False) as pipeline:
                for stream in some:
                    pipeline.eval(REMOVE_DEAD, 1, stream, GROUP, DEAD_AFTER_MS)
                self.consumers += sum(pipeline.execute())
        elif self._parties:
            some, self._parties = self._parties[:STREAMS], self._parties[STREAMS:]
            self._remove_keys_of(some)
        elif self._cursor is not None:
            self._remove_jobs()
        return bool(self._streams or self._parties or self._cursor is not None)

    def _remove_keys_of(self, parties: list[str]) -> None:
        with self.connection.pipeline(transaction=False) as pipeline:
            for party in parties:
                of_rq = [key.format(party) for key in RQ_KEYS]
                pipeline.delete(stream_of(party), requests_of(party), ports_wanted(party), *of_rq)
                pipeline.srem(RQ_QUEUES, f"rq:queue:{party}")
            self.keys += sum(pipeline.execute()[::2])

    def _remove_jobs(self) -> None:
        answer: Any = self.connection.scan(self._cursor or 0, match="rq:job:*", count=KEYS)
        cursor, found = answer
        names = {key: JOB.fullmatch(key.decode(errors="replace")) for key in found}
        doomed = [key for key, name in names.items() if name and name["party"] in self._gone]
        if doomed:
            self.keys += self.connection.unlink(*doomed)
        self._cursor = cursor or None


def deleted_parties() -> set[str]:
    """Return the names of parties that were deleted, and that nobody has registered again: by the history alone, or
    keys of somebody else who uses the same Redis might go."""
    before = timezone.now() - GONE_FOR
    deleted = Party.history.filter(history_type="-", history_date__lt=before)
    return set(deleted.values_list("name", flat=True)) - set(Party.objects.values_list("name", flat=True))
