"""Try a live site with all that the API's description allows, and with what it does not, for a while.

make fuzz-api FUZZ_SECONDS=600 ARGS="--include-tag executions"
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from executions.trial.stack import Trial

ROOT = Path(__file__).parent.parent
#: Run in the site's environment: it prints a token.
PREPARE = """
import os
import django
django.setup()
from django.core.management import call_command
from django.test.utils import setup_test_environment
from controlplane.models import TokenTerms
from tests.composed import api_client, superuser
from tests.described import PreparedSite
setup_test_environment()
call_command("migrate", verbosity=0)
PreparedSite(api_client(superuser()))
user = superuser()
user.set_password(os.environ["FUZZ_PASSWORD"])
user.save()
print("TOKEN", TokenTerms.make_token(superuser(), "fuzz")[1])
"""


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzzed-api-") as place, Trial(Path(place), parties=()) as trial:
        trial.env["FUZZ_PASSWORD"] = secrets.token_urlsafe(12)
        trial.start_valkey()
        done = subprocess.run(
            [sys.executable, "-c", PREPARE], cwd=ROOT, env=trial.env, stdout=subprocess.PIPE, text=True, check=True
        )
        trial.env |= {"FUZZ_TOKEN": done.stdout.partition("TOKEN ")[2].strip(), "PYTHONPATH": str(ROOT)}
        trial.start_web()
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", "tests/schemathesis.toml", "run",
            "docs/openapi.yaml", "--url", trial.url,
            "--max-time", os.environ.get("FUZZ_SECONDS", "600"), "--continue-on-failure", *arguments,
        ]  # fmt: skip
        code = subprocess.run(command, cwd=ROOT, env=trial.env, check=False).returncode
        failed = [line for line in (trial.logs / "web.log").read_text().splitlines() if "Server Error (500)" in line]
        print("\n".join(failed[:20]))
        return code or bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
