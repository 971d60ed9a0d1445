"""``make bench``: every benchmark, each with its baseline in the same run."""

import os

from rich.console import Console

from tests.benchmarks import control_plane, device_reuse, wall_time
from tests.benchmarks.site import own_site

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    console = Console(width=200)
    wall_time.main(console)
    device_reuse.main(console)
    with own_site():
        control_plane.main(console)
