"""Gathers all metrics at the moment of a scrape.

Nothing is counted in this process: any number of web processes and coordinators give the same figures, and a restart
loses none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis
from redis.exceptions import RedisError

from controlplane.environment import environment
from executions.metrics import rows
from executions.metrics.hosts import BUSY, READY, STARTING, Host, look
from executions.metrics.names import COUNTER, GAUGE, METRICS
from executions.models import Beat
from executions.models.total import BOUNDS, DURATION, FAILED, LETTER, LINK, STAGE, WAIT
from executions.states import ENDED, OPEN
from workers.contract.connection import connect, trouble
from workers.contract.registry import DEVICE_REGISTRY, TASK_EXECUTOR_REGISTRY

log = logging.getLogger(__name__)

#: Seconds that Redis has for an answer: a scrape has ten in all, as Prometheus has it.
REDIS_SECONDS = 2.0
Labels = tuple[str, ...]


@cache
def _connection() -> Redis:
    return connect(environment.redis_url, seconds=REDIS_SECONDS, tries=1)


def exposition() -> bytes:
    """Return all metrics as Prometheus reads them. Raises DatabaseError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Gathered(_connection()))
    return generate_latest(registry)


class Gathered(Collector):
    """All metrics, of one moment."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering this must not gather anything."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. Raises DatabaseError; while Redis is away, what it has is missing."""
        began = time.monotonic()
        parties = rows.party_names()
        yield from self._totals(parties)
        yield from self._rows(parties)
        try:
            hosts = look(self.connection, parties)
        except (RedisError, OSError) as error:
            log.warning("/metrics lacks what Redis has: %s", trouble(error))
            hosts = None
        yield gauge("secretflow_redis_up", {(): float(hosts is not None)})
        yield from self._hosts(hosts or {})
        yield gauge("secretflow_scrape_seconds", {(): time.monotonic() - began})

    def _totals(self, parties: list[str]) -> Iterator[Metric]:
        found = rows.totals()
        ended: dict[Labels, float] = {(kind, str(s)): 0.0 for kind in TASK_EXECUTOR_REGISTRY for s in sorted(ENDED)}
        for one in found.get(DURATION, ()):
            ended[one.labels] = ended.get(one.labels, 0) + one.number
        yield counter("secretflow_executions_ended", ended)
        yield histogram("secretflow_execution_duration_seconds", found.get(DURATION, []))
        yield histogram("secretflow_execution_wait_seconds", found.get(WAIT, []))
        yield histogram("secretflow_stage_duration_seconds", found.get(STAGE, []))
        devices = {f"{device.name}_init": device.name for device in DEVICE_REGISTRY.values()}
        of_devices = [
            one._replace(labels=(devices[one.labels[1]],)) for one in found.get(STAGE, ()) if one.labels[1] in devices
        ]
        yield histogram("secretflow_device_init_seconds", of_devices)
        failed = {one.labels: float(one.number) for one in found.get(FAILED, ())}
        yield counter("secretflow_attempts_failed", failed)
        for name, metric in (("secretflow_link_errors", LINK), ("secretflow_dead_letters", LETTER)):
            by_party = {one.labels[0]: float(one.number) for one in found.get(metric, ())}
            # From 0 on, or Prometheus would not see the first one; and nothing of parties that were deleted
            yield counter(name, {(party,): by_party.get(party, 0.0) for party in parties})

    def _rows(self, parties: list[str]) -> Iterator[Metric]:
        waiting, running = rows.open_executions(), rows.runs_at_parties()
        yield gauge("secretflow_executions", {(str(s),): float(waiting.number[str(s)]) for s in OPEN})
        yield gauge("secretflow_executions_oldest_seconds", {(s,): age for s, age in waiting.oldest.items()})
        yield gauge("secretflow_party_queue_depth", {(p,): float(waiting.queued_at[p]) for p in parties})
        yield gauge("secretflow_party_runs", {(p,): float(running.get(p, 0)) for p in parties})
        known = set(parties)
        trips: dict[Labels, float] = {
            pair: seconds for pair, seconds in rows.round_trips().items() if known.issuperset(pair)
        }
        yield gauge("secretflow_link_round_trip_seconds", trips)
        ages = Beat.ages()
        yield gauge("secretflow_coordinators", {(): float(sum(age <= Beat.AWAY_AFTER for age in ages))})
        yield gauge("secretflow_coordinator_idle_seconds", {(): ages[0]} if ages else {})

    def _hosts(self, hosts: Mapping[str, Host]) -> Iterator[Metric]:
        yield gauge("secretflow_stream_entries", {(p,): float(host.entries) for p, host in hosts.items()})
        yield gauge("secretflow_stream_lag_seconds", {(p,): host.lag for p, host in hosts.items()})
        workers: dict[Labels, float] = {
            (p, s): float(host.workers[s]) for p, host in hosts.items() for s in (BUSY, READY, STARTING)
        }
        yield gauge("secretflow_workers", workers)
        lowest: dict[str, Callable[[Host], float | None]] = {
            "secretflow_worker_memory_free_bytes": lambda host: host.memory_free,
            "secretflow_worker_memory_free_ratio": lambda host: host.memory_ratio,
            "secretflow_worker_disk_free_bytes": lambda host: host.disk_free,
            "secretflow_worker_disk_free_ratio": lambda host: host.disk_ratio,
            "secretflow_worker_load_per_cpu": lambda host: host.load,
        }
        for name, of in lowest.items():
            yield gauge(name, {(p,): told for p, host in hosts.items() if (told := of(host)) is not None})


def gauge(name: str, values: Mapping[Labels, float]) -> Metric:
    assert METRICS[name].kind == GAUGE
    family = GaugeMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def counter(name: str, values: Mapping[Labels, float]) -> Metric:
    """Return a counter; its series are called ``<name>_total``."""
    assert METRICS[name].kind == COUNTER
    family = CounterMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def histogram(name: str, sums: list[rows.Summed]) -> Metric:
    family = HistogramMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)
    bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    for labels, numbers, seconds in rows.cumulative(sums, BOUNDS):
        family.add_metric(labels, list(zip(bounds, numbers, strict=True)), seconds)
    return family
