"""Fixtures of `hub_server`."""

from hub_server import repository, server

__all__ = ["repository", "server"]
