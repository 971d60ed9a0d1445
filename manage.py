#!/usr/bin/env python
import os
import sys

from django.core.management import execute_from_command_line
from django.db import OperationalError

from controlplane import host
from controlplane.management.database import database_trouble, is_unreachable

if __name__ == "__main__":
    settings = "controlplane.host.settings" if {*sys.argv[1:2]} & {*host.COMMANDS} else "controlplane.settings"
    if os.environ.get("DJANGO_SETTINGS_MODULE", "controlplane.settings") == "controlplane.settings":
        os.environ["DJANGO_SETTINGS_MODULE"] = settings
    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if not is_unreachable(error):
            raise
        sys.exit(f"{database_trouble(error)}.")
