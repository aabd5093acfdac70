"""The command `python -m training.overfit`: see `training.run.overfit`."""

import sys

from training.run.overfit import main

if __name__ == "__main__":
    sys.exit(main())
