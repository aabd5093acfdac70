"""The commands `captionbot` and `python -m captionbot`: see `captionbot.cli.main`."""

import gc
import os
import sys
from typing import NoReturn

from captionbot.cli.commands import INTERRUPTED
from captionbot.cli.main import main


def run() -> NoReturn:
    code = main()
    if code == INTERRUPTED:
        os._exit(code)  # threads may be at work yet, which torch answers with an abort as Python ends
    gc.freeze()  # Python's last collection would go through all of torch
    sys.exit(code)


if __name__ == "__main__":
    run()
