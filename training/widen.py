"""The command `python -m training.widen`: see `training.run.widen`."""

import sys

from training.run.widen import main

if __name__ == "__main__":
    sys.exit(main())
