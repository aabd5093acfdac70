"""The command `python -m training.tags`: see `training.fit.tags`."""

import sys

from training.fit.tags import main

if __name__ == "__main__":
    sys.exit(main())
