"""The command line ``sfcp``."""

from __future__ import annotations

import os
import sys

from secretflow_controlplane_client.cli.commands import app
from secretflow_controlplane_client.cli.session import clean, told
from secretflow_controlplane_client.errors import ControlPlaneError

#: Exit statuses: the execution has not succeeded or an entry was refused; a request was refused or not answered;
#: sfcp itself has failed; Ctrl-C. Wrong options are 2.
FAILED, REFUSED, BROKEN, INTERRUPTED = 1, 3, 70, 130


def main() -> None:
    """Run a command and exit. Whatever goes wrong is a line, and never a traceback."""
    try:
        app(prog_name="sfcp")
    except ControlPlaneError as error:
        told(error)
        status = REFUSED
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:  # who reads has closed it, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:
        text = clean(f"{type(error).__name__}: {error}").partition("\n")[0]
        sys.stderr.write(f"sfcp has failed: {text}\nPlease report this, with the command.\n")
        status = BROKEN
    else:
        status = 0
    sys.exit(status)
