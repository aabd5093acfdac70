"""The command `python -m training.average`: see `training.compress.average`."""

import sys

from training.compress.average import main

if __name__ == "__main__":
    sys.exit(main())
