"""The command `python -m training.pca`: see `training.fit.pca`."""

import sys

from captionbot import host


def main(arguments: list[str] | None = None) -> int:
    return host.run("training.fit.pca", arguments)


if __name__ == "__main__":
    sys.exit(main())
