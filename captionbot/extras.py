"""Packages that only some uses need: extras of `pip install captionbot[...]`."""

from __future__ import annotations

from importlib.util import find_spec

from captionbot.errors import CaptionBotError


def require(package: str, extra: str, use: str) -> None:
    """CaptionBotError that says which extra to install where a package is missing.

    use: what needs it, as the beginning of a sentence.
    """
    if find_spec(package) is None:
        raise CaptionBotError(
            f"{use} needs the package {package}, which is not installed: pip install 'captionbot[{extra}]'."
        )
