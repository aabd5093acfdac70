"""The command `python -m training.detector`: see `training.detector.train`."""

import sys

from captionbot import host

if __name__ == "__main__":
    sys.exit(host.run("training.detector.train"))
