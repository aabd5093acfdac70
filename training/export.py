"""The command `python -m training.export`: see `training.compress.export`."""

import sys

from training.compress.export import main

if __name__ == "__main__":
    sys.exit(main())
