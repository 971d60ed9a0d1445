import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
from rich.console import Console
from tests import stack
from tests.benchmarks import services
from tests.benchmarks.site import own_site
if __name__ == "__main__":
    with own_site():
        services.many_deliveries(Console(width=200))
