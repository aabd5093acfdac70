"""The command `python -m training.ensemble`: see `training.compress.ensemble`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.compress.ensemble", arguments)


if __name__ == "__main__":
    sys.exit(main())
