"""The command `python -m training.evidence`: see `training.fit.reranker`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.fit.reranker", arguments)


if __name__ == "__main__":
    sys.exit(main())
