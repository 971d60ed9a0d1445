"""What a worker tells of its host with each heartbeat, by field of its key in Redis."""

from __future__ import annotations

#: In bytes; disk: where output_dir is.
MEMORY_FREE, MEMORY_TOTAL, DISK_FREE, DISK_TOTAL = "memory_free", "memory_total", "disk_free", "disk_total"
#: Processes that want to run, over the last minute, and CPUs that this process may use.
LOAD, CPUS = "load", "cpus"
