"""How much of visitors' uploads the Streamlit server keeps in memory, where it has no limit of its own."""

from __future__ import annotations

from threading import Lock
from typing import Any

from starlette.exceptions import HTTPException
from streamlit.runtime import Runtime

from captionbot.pages.limits import MAX_KEPT_MEGABYTES, MAX_SESSION_MEGABYTES

_lock = Lock()


def limit_uploads() -> None:
    """Have the server refuse files for which there is no room; nothing where that is done, or no server."""
    if Runtime.exists():
        with _lock:
            # Without one the page is run by Streamlit's `AppTest`.
            manager: Any = getattr(Runtime.instance(), "_uploaded_file_mgr", None)
            if manager is not None and not hasattr(manager, "unlimited"):
                manager.unlimited = manager.add_file
                manager.add_file = lambda session_id, file: _add(manager, session_id, file)


def _add(manager: Any, session_id: str, file: Any) -> None:
    with _lock:
        kept = {
            session: sum(len(one.data) for one in [*files.values()] if one.file_id != file.file_id)
            for session, files in [*manager.file_storage.items()]
        }
        own = len(file.data) + kept.get(session_id, 0)
        if own > MAX_SESSION_MEGABYTES * 1_000_000:
            raise HTTPException(
                413, f"One visit may keep {MAX_SESSION_MEGABYTES} MB here: remove some files."
            )
        if len(file.data) + sum(kept.values()) > MAX_KEPT_MEGABYTES * 1_000_000:
            raise HTTPException(507, "Other visitors have uploaded all that fits: try again later.")
        manager.unlimited(session_id, file)
