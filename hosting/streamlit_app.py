"""The Streamlit page for Streamlit Community Cloud, which takes the requirements that lie beside this file:
PyTorch without CUDA."""

import sys
from pathlib import Path

if (root := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, root)

from captionbot import host

host.prepare()  # before torch is imported

from captionbot.pages.streamlit.app import main  # noqa: E402

if __name__ == "__main__":
    main()
