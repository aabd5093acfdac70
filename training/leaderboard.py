"""The command `python -m training.leaderboard`: see `training.evaluation.leaderboard`."""

import sys

from training.evaluation.leaderboard import main

if __name__ == "__main__":
    sys.exit(main())
