"""The command `python -m training.confidence`: see `training.fit.confidence`."""

import sys

from training.fit.confidence import main

if __name__ == "__main__":
    sys.exit(main())
