"""The command `python -m training.pseudo`: see `training.fit.pseudo`."""

import sys

from training.fit.pseudo import main

if __name__ == "__main__":
    sys.exit(main())
