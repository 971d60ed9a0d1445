"""``make screenshots``: the pictures that README and docs show, of a trial that has run the main job and a pipeline."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page
from secretflow_controlplane_client import Client

from executions.states import ENDED
from executions.trial.stack import Trial
from fixtures.tables import write_tables
from tests.browser import started_chromium

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
#: Width and height of the window, in px.
SIZE = {"width": 1200, "height": 800}
LIMIT = 180.0


def run_to_its_end(service: Client, path: str, body: dict[str, str]) -> str:
    """Submit something, wait for its end, and return its id."""
    made = service.call("POST", path, body)
    end = time.monotonic() + LIMIT
    while service.call("GET", f"{path}{made['id']}/")["status"] not in ENDED:
        if time.monotonic() > end:
            raise SystemExit(f"{path}{made['id']}/ has not ended within {LIMIT:g} s")
        time.sleep(0.3)
    return str(made["id"])


def take(page: Page, name: str, path: str, *, whole: bool = False) -> None:
    page.goto(path)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=str(PICTURES / f"{name}.png"), full_page=whole)
    print(f"docs/pictures/{name}.png")


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="secretflow-pictures-", dir="/tmp") as directory:
        tables = write_tables(Path(directory))
        with Trial(Path(directory)) as trial, started_chromium() as browser:
            service = trial.start({party: {"breast_cancer": table} for party, table in tables.items()})
            psi = run_to_its_end(service, "/api/v1/executions/", {"task": "intersect patients"})
            model = run_to_its_end(service, "/api/v1/executions/", {"task": "predict malignancy"})
            run = run_to_its_end(service, "/api/v1/pipeline-runs/", {"pipeline": "patients to a model"})
            page = browser.new_page(base_url=trial.url, viewport=SIZE)
            page.goto("/admin/login/")
            page.fill("#id_username", "admin")
            page.fill("#id_password", trial.password)
            page.click("[type=submit]")
            take(page, "overview", "/admin/")
            take(page, "executions", "/admin/executions/execution/")
            take(page, "intersection", f"/admin/executions/execution/{psi}/change/")
            take(page, "model", f"/admin/executions/execution/{model}/change/", whole=True)
            take(page, "pipeline-run", f"/admin/executions/pipelinerun/{run}/change/")
            page.emulate_media(color_scheme="dark")
            take(page, "model-dark", f"/admin/executions/execution/{model}/change/")


if __name__ == "__main__":
    main()
