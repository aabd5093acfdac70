"""The command `python -m training.train`: see `training.run.train`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.run.train", arguments)


if __name__ == "__main__":
    sys.exit(main())
