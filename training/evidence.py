"""The command `python -m training.evidence`: see `training.fit.reranker`."""

import sys

from training.fit.reranker import main

if __name__ == "__main__":
    sys.exit(main())
