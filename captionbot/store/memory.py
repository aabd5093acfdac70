"""How much memory there is, before a large captioner is loaded into it."""

from __future__ import annotations

from pathlib import Path

from captionbot.errors import CaptionBotError

_GROUP = Path("/sys/fs/cgroup")
_V1 = _GROUP / "memory"


def available() -> int | None:
    """Bytes that this process can still have: of the machine, or of its container; None where nobody says."""
    groups = (
        ("memory.max", "memory.current", _GROUP),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", _V1),
    )
    found = [left for left in (_of_machine(), *(_of_group(*group) for group in groups)) if left]
    return min(found, default=None)


def check_room(needed: int, what: str) -> None:
    """CaptionBotError where there is not as much memory; no word where it is not known."""
    left = available()
    if left is not None and left < needed:
        raise CaptionBotError(
            f"{what} needs {needed / 1e9:.1f} GB of memory, and {left / 1e9:.1f} GB are free: close other "
            "programs, or choose a smaller captioner."
        )


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _of_group(most: str, used: str, folder: Path) -> int | None:
    try:
        limit, now = (int((folder / name).read_text(encoding="ascii")) for name in (most, used))
        reclaimable = 0  # files that are kept in memory as long as nobody needs it
        for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
            if line.startswith(("inactive_file ", "total_inactive_file ")):
                reclaimable = int(line.split()[1])
        return max(1, limit - now + reclaimable)
    except (OSError, ValueError, IndexError):  # "max" is no number
        return None
