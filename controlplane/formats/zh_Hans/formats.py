"""In Chinese too, times have the one format of the console."""

from controlplane.formats.en.formats import *  # noqa: F403
