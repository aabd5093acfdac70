"""The command `python -m training.gallery`: see `training.evaluation.gallery`."""

import sys

from training.evaluation.gallery import main

if __name__ == "__main__":
    sys.exit(main())
