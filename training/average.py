"""The command `python -m training.average`: see `training.compress.average`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.compress.average", arguments)


if __name__ == "__main__":
    sys.exit(main())
