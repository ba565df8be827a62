"""Lines that say what a long call is reading, measuring or writing, for whoever shows them."""

from __future__ import annotations

from collections.abc import Callable

Notify = Callable[[str], None]


def silent(_: str) -> None:
    """Show nothing."""
