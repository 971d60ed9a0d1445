"""``make bench``: every benchmark, each with its baseline in the same run; ``ARGS=quick`` for five minutes of it."""

import os
import sys

from rich.console import Console

# First: it says where the database is, before the settings are read
from tests import stack  # noqa: F401
from tests.benchmarks import control_plane, device_reuse, many, services, wall_time
from tests.benchmarks.site import own_site

#: Processes that wait for a core beside ours, on average, from which on the figures are of another machine's.
BUSY = 0.5

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    console = Console(width=200)
    load, cores = os.getloadavg()[0], os.cpu_count()
    console.print(f"{cores} cores, load of the last minute {load:.1f}")
    if load > BUSY:
        console.print(
            "[bold red]This machine is busy with other work: the ratios are rough, and the times too long.[/]"
        )
    if sys.argv[1:] == ["quick"]:
        wall_time.main(console, (wall_time.SHORT,))
        many.main(console, 20)
    elif not sys.argv[1:]:
        wall_time.main(console)
        many.main(console)
        device_reuse.main(console)
        services.many_services(console)
        with own_site():
            control_plane.main(console)
            services.many_deliveries(console)
    else:
        raise SystemExit(f"{' '.join(sys.argv[1:])} is no argument of the benchmarks; there is: quick")
