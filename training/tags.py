"""The command `python -m training.tags`: see `training.fit.tags`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.fit.tags", arguments)


if __name__ == "__main__":
    sys.exit(main())
