"""The metrics by name: what each one is, and its labels. deploy/ and docs/operations.md go by these."""

from __future__ import annotations

from typing import NamedTuple


class Named(NamedTuple):
    kind: str
    help: str
    labels: tuple[str, ...] = ()


GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"

METRICS: dict[str, Named] = {
    # From the totals (executions.models.total), which only rise
    "secretflow_executions_ended": Named(
        COUNTER, "Executions that have ended, by the status that they ended with.", ("task_type", "status")
    ),
    "secretflow_execution_duration_seconds": Named(
        HISTOGRAM, "Seconds from an execution's submission to its end, retries included.", ("task_type", "status")
    ),
    "secretflow_execution_wait_seconds": Named(
        HISTOGRAM, "Seconds that the last attempt of an ended execution was queued.", ("task_type",)
    ),
    "secretflow_stage_duration_seconds": Named(
        HISTOGRAM, "Seconds of a stage, of each party of executions that succeeded.", ("task_type", "stage")
    ),
    "secretflow_device_init_seconds": Named(
        HISTOGRAM, "Seconds to bring a device up, of each party of executions that succeeded.", ("device",)
    ),
    "secretflow_attempts_failed": Named(
        COUNTER, "Attempts that failed, also those that were retried, by class and stage of the error.",
        ("error_type", "stage"),
    ),
    "secretflow_link_errors": Named(
        COUNTER, "Attempts and checks in which this party's link to another broke or did not come up.", ("party",)
    ),
    "secretflow_dead_letters": Named(
        COUNTER, "Entries of this party's stream that could not be applied; of a flood 20 a minute.", ("party",)
    ),
    # From the database, as of now
    "secretflow_executions": Named(GAUGE, "Executions that have not ended.", ("status",)),
    "secretflow_executions_oldest_seconds": Named(
        GAUGE, "Seconds since the oldest of them was queued; 0 without one.", ("status",)
    ),
    "secretflow_party_queue_depth": Named(GAUGE, "Queued executions that involve this party.", ("party",)),
    "secretflow_party_runs": Named(GAUGE, "Runs that occupy a worker of this party.", ("party",)),
    "secretflow_link_round_trip_seconds": Named(
        GAUGE, "Latest time from a greeting to a peer's answer, in pre-flight checks of the last hour.",
        ("party", "peer"),
    ),
    "secretflow_coordinators": Named(GAUGE, "Coordinators that began a step in the last 30 s."),
    "secretflow_coordinator_idle_seconds": Named(
        GAUGE, "Seconds since any coordinator noted a step, which each does every 5 s."
    ),
    # From Redis, as of now
    "secretflow_redis_up": Named(GAUGE, "1 if Redis answers; otherwise 0, and what follows is missing."),
    "secretflow_stream_entries": Named(GAUGE, "Entries of this party's stream that are not applied yet.", ("party",)),
    "secretflow_stream_lag_seconds": Named(
        GAUGE, "Age of the oldest entry of this party's stream that is not applied yet; 0 without one.", ("party",)
    ),
    "secretflow_workers": Named(
        GAUGE, "Live workers of this party: busy, ready, or still importing SecretFlow.", ("party", "state")
    ),
    "secretflow_worker_memory_free_bytes": Named(
        GAUGE, "Free memory of this party's host that has least.", ("party",)
    ),
    "secretflow_worker_memory_free_ratio": Named(
        GAUGE, "The same as a share of the host's memory, 0 to 1.", ("party",)
    ),
    "secretflow_worker_disk_free_bytes": Named(
        GAUGE, "Free space at output_dir of this party's host that has least.", ("party",)
    ),
    "secretflow_worker_disk_free_ratio": Named(GAUGE, "The same as a share of that disk, 0 to 1.", ("party",)),
    "secretflow_worker_load_per_cpu": Named(
        GAUGE, "Processes that want to run, per CPU, on this party's busiest host, over the last minute.", ("party",)
    ),
    "secretflow_scrape_seconds": Named(GAUGE, "Seconds that it took to gather all this."),
}  # fmt: skip
