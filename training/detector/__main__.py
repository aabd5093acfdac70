"""The command `python -m training.detector`: see `training.detector.train`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.detector.train", arguments)


if __name__ == "__main__":
    sys.exit(main())
