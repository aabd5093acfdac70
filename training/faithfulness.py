"""The command `python -m training.faithfulness`: see `training.evaluation.faithfulness`."""

import sys

from training.evaluation.faithfulness import main

if __name__ == "__main__":
    sys.exit(main())
