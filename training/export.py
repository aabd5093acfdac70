"""The command `python -m training.export`: see `training.compress.export`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.compress.export", arguments)


if __name__ == "__main__":
    sys.exit(main())
