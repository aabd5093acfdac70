"""The command `python -m training.faithfulness`: see `training.evaluation.faithfulness`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.evaluation.faithfulness", arguments)


if __name__ == "__main__":
    sys.exit(main())
