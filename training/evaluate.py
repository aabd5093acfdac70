"""The command `python -m training.evaluate`: see `training.evaluation.evaluate`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.evaluation.evaluate", arguments)


if __name__ == "__main__":
    sys.exit(main())
