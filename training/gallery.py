"""The command `python -m training.gallery`: see `training.evaluation.gallery`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.evaluation.gallery", arguments)


if __name__ == "__main__":
    sys.exit(main())
