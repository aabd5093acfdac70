"""The Gradio page and Hugging Face Space, where hosts look for it: `python gradio_app.py`."""

from captionbot.pages.gradio.app import LAUNCH, demo

if __name__ == "__main__":
    demo.launch(**LAUNCH)
