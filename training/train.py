"""The command `python -m training.train`: see `training.run.train`."""

import sys

from training.run.train import main

if __name__ == "__main__":
    sys.exit(main())
