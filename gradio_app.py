"""The Gradio page and Hugging Face Space, where hosts look for it: `python gradio_app.py`."""

from captionbot import host

host.prepare()  # before torch is imported

from captionbot.pages.gradio.app import LAUNCH, demo  # noqa: E402

if __name__ == "__main__":
    demo.launch(**LAUNCH)
