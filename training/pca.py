"""The command `python -m training.pca`: see `training.fit.pca`."""

import sys

from training.fit.pca import main

if __name__ == "__main__":
    sys.exit(main())
