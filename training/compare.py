"""The command `python -m training.compare`: see `training.evaluation.compare`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.evaluation.compare", arguments)


if __name__ == "__main__":
    sys.exit(main())
