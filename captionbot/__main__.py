"""`python -m captionbot`: see `captionbot.cli.main`."""

import os
import sys

from captionbot.cli.commands import INTERRUPTED
from captionbot.cli.main import main

if __name__ == "__main__":
    code = main()
    if code == INTERRUPTED:
        os._exit(code)  # threads may be at work yet, which torch answers with an abort as Python ends
    sys.exit(code)
