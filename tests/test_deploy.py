"""What is under deploy/ starts commands that there are, with arguments that they take, from files that there are."""

from __future__ import annotations

import json
import re
import shlex
from configparser import RawConfigParser
from pathlib import Path

import pytest
import tomli
import yaml
from django.core.management import get_commands, load_command_class
from gunicorn.config import Config  # type: ignore[import-untyped]

from controlplane.environment import ROOT

DEPLOY = ROOT / "deploy"


def units() -> dict[str, list[str]]:
    found = {}
    for path in sorted(DEPLOY.glob("*.service")):
        unit = RawConfigParser(strict=False)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(path)
        line = unit["Service"]["ExecStart"].replace("%i", "alice").replace("${SLOTS}", "4")
        found[path.name] = shlex.split(line)
    return found


def images() -> dict[str, list[str]]:
    found = {}
    for path in sorted(DEPLOY.glob("*.Dockerfile")):
        last = path.read_text().strip().splitlines()[-1]
        word, _, command = last.partition(" ")
        found[path.name] = json.loads(command) + (["alice"] if word == "ENTRYPOINT" else [])
    return found


def services() -> dict[str, list[str]]:
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return {f"compose {name}": one["command"] for name, one in composed.items() if "build" in one and "command" in one}


@pytest.mark.parametrize("command", [pytest.param(c, id=n) for n, c in (units() | images() | services()).items()])
def test_it_starts_what_there_is(command: list[str]) -> None:
    program, *arguments = command
    if Path(program).name == "python":
        script, name, *rest = arguments
        assert script == "manage.py"
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        parser.parse_args(rest)  # exits where it does not take them
    else:
        assert Path(program).name == "gunicorn"
        Config().parser().parse_args(arguments)


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.Dockerfile")), ids=lambda path: path.name)
def test_an_image_has_what_the_lock_file_names_before_it_installs(path: Path) -> None:
    sources = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["sources"].values()
    needed = {"pyproject.toml", "uv.lock", *(f"{source['path']}/pyproject.toml" for source in sources)}
    before = path.read_text().partition("RUN uv sync")[0]
    copied = {name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", before, re.M) for name in line.split()}
    assert needed <= copied
    assert all((ROOT / name).is_file() for name in copied)


def test_the_web_server_has_no_part_in_the_coordinators_key() -> None:
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert composed["coordinator"]["volumes"]
    assert not set(composed["coordinator"]["volumes"]) & set(composed["web"].get("volumes", []))
    places = {}
    for name in ("web", "coordinator"):
        unit = RawConfigParser(strict=False)
        unit.read(DEPLOY / f"controlplane-{name}.service")
        places[name] = (unit["Service"]["user"], unit["Service"]["statedirectory"])
    assert not set(places["web"]) & set(places["coordinator"])


def test_compose_names_what_there_is() -> None:
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name, service in composed["services"].items():
        assert set(service.get("depends_on", {})) <= set(composed["services"]), name
        if "build" in service:
            build = service["build"]
            assert (DEPLOY / build["context"] / build["dockerfile"]).is_file(), name
        for mounted in service.get("volumes", []):
            assert mounted.partition(":")[0] in composed["volumes"], name
