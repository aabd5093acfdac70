"""The command `python -m training.detector`: see `training.detector.train`."""

import sys

from training.detector.train import main

if __name__ == "__main__":
    sys.exit(main())
