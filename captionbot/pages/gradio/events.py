"""How events are handled, and what they give back."""

from __future__ import annotations

from typing import Any

Shown = dict[Any, Any]
"""A value for every component that changes."""

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = {**PRIVATE, "show_progress": "hidden"}
# So many of them wait for their turn at the captioner (`captionbot.pages.turns`), which goes round; the
# others wait in the queue of their own kind. Programs and long jobs do not stand in the visitors' way.
BUSY: dict[str, Any] = {"concurrency_limit": 8, "concurrency_id": "captioner"}
PROGRAMS: dict[str, Any] = {"concurrency_limit": 16, "concurrency_id": "programs"}  # some fetch photos
LONG: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "batch"}
FETCHING: dict[str, Any] = {"concurrency_limit": None}
