"""``make bench``: every benchmark, each with its baseline in the same run."""

from rich.console import Console

from tests.benchmarks import psi_wall_time

if __name__ == "__main__":
    psi_wall_time.main(Console())
