#!/usr/bin/env python
import os
import sys

from django.core.management import execute_from_command_line
from django.db import OperationalError

from controlplane.management.database import database_trouble, is_unreachable

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if not is_unreachable(error):
            raise
        sys.exit(f"{database_trouble(error)}.")
