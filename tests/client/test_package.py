"""The client installs by itself: without Django, and with all that it imports among its dependencies."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import secretflow_controlplane_client
import tomli
import yaml
from packaging.requirements import Requirement
from secretflow_controlplane_client import models

from controlplane.environment import ROOT

PACKAGE = Path(secretflow_controlplane_client.__file__).parent
PROJECT = tomli.loads((ROOT / "client/pyproject.toml").read_text())["project"]
#: Imports all of it; prints what came along.
IMPORT_ALL = """
import pkgutil, sys
import secretflow_controlplane_client as package
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    __import__(module.name)
print(*{name.partition(".")[0] for name in sys.modules})
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, set[str]]:
    """The packages of the lock file, each with those that it needs."""
    found: dict[str, set[str]] = {}
    for package in tomli.loads((ROOT / "uv.lock").read_text())["package"]:
        needs = {entry["name"] for entry in package.get("dependencies", [])}
        found.setdefault(package["name"], set()).update(needs)
    return found


def needed() -> set[str]:
    """All packages that come along with it."""
    found, packages = set[str](), locked()
    queue = [normal(Requirement(line).name) for line in PROJECT["dependencies"]]
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += packages[name]
    return found


def test_it_needs_no_django() -> None:
    found = needed()
    assert {"httpx", "pydantic", "typer", "anyio"} <= found
    assert not {name for name in found if "django" in name or name in ("rq", "redis", "secretflow", "cryptography")}


def test_it_imports_what_it_says_and_no_django(tmp_path: Path) -> None:
    """In a process that finds the package and its dependencies alone, away from this project."""
    site = tmp_path / "site"
    site.mkdir()
    names, installed = needed(), Path(tomli.__file__).parent.parent
    for record in installed.glob("*.dist-info/RECORD"):
        if normal(record.parent.name.partition("-")[0]) in names:
            for top in {line.partition(",")[0].partition("/")[0] for line in record.read_text().splitlines()}:
                if not top.startswith((".", "__pycache__")) and not (site / top).exists():
                    (site / top).symlink_to(installed / top)
    (site / PACKAGE.name).symlink_to(PACKAGE)
    # -S: no site-packages, -E: nothing of the environment; the project's own directory is not found either
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n{IMPORT_ALL}"
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert {"httpx", "typer", "yaml", "secretflow_controlplane_client"} <= imported
    assert not imported & {"django", "rest_framework", "controlplane", "executions", "workers", "cryptography"}


def test_it_is_typed_and_says_its_version() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert PROJECT["version"] == secretflow_controlplane_client.__version__
    assert PROJECT["requires-python"] == ">=3.10"


@pytest.mark.parametrize(
    ("described", "model"),
    [
        ("Execution", models.Execution),
        ("PartyRun", models.PartyRun),
        ("StateChange", models.StateChange),
        ("ExecutionError", models.ExecutionError),
        ("Event", models.Event),
        ("LogLine", models.LogLine),
        ("ErrorBody", models.Problem),
        ("ErrorEntry", models.FieldProblem),
        ("DryRun", models.DryRun),
    ],
)
def test_its_models_have_the_fields_that_the_api_describes(described: str, model: type[models.Model]) -> None:
    schemas = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["components"]["schemas"]
    assert set(schemas[described]["properties"]) == set(model.model_fields)
