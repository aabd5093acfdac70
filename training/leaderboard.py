"""The command `python -m training.leaderboard`: see `training.evaluation.leaderboard`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.evaluation.leaderboard", arguments)


if __name__ == "__main__":
    sys.exit(main())
