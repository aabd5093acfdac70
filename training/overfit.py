"""The command `python -m training.overfit`: see `training.run.overfit`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.run.overfit", arguments)


if __name__ == "__main__":
    sys.exit(main())
