"""Replaces functions of SecretFlow's in this process."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def replace_once(owner: Any, name: str, made_of: Callable[[Any], Any]) -> None:
    """Replace ``owner``'s function of this name by ``made_of(function)``. May be called again."""
    function = getattr(owner, name)
    if not hasattr(function, "_replaces"):
        ours: Any = functools.wraps(function)(made_of(function))
        ours._replaces = function
        setattr(owner, name, ours)
