"""The command `python -m training.efficientnet_lite`: see `training.run.efficientnet_lite`."""

import sys

from training.run.efficientnet_lite import main

if __name__ == "__main__":
    sys.exit(main())
