"""Faster links than SecretFlow's defaults."""

from __future__ import annotations

from typing import Any

RETRY_INTERVAL_MS = 20
#: Together with the interval, about as long as the link's own ten retries of one second.
MAX_RETRIES = 500


def quicken_links() -> None:
    """Let the links of this process retry every 20 ms and not every second.

    One of two peers always connects before the other one listens, if only by a millisecond; the link's
    retry interval is then lost time, twice a run. SecretFlow offers no option for it, so the class that it
    makes its link descriptions from is wrapped (3-facts.md section 2, snippets/link_quanta.py).
    """
    import spu
    import spu.libspu.link as link

    original = link.Desc
    if getattr(original, "__name__", "") == "quick_desc":
        return

    def quick_desc(*args: Any, **kwargs: Any) -> Any:
        desc = original(*args, **kwargs)
        options = desc.retry_opts
        options.retry_interval_ms = RETRY_INTERVAL_MS
        options.retry_interval_incr_ms = 0
        options.max_retry_interval_ms = RETRY_INTERVAL_MS
        options.max_retry = MAX_RETRIES
        return desc

    link.Desc = quick_desc
    spu.link.Desc = quick_desc
