"""The Gradio page and Hugging Face Space, where hosts look for it: `python gradio_app.py`."""

from captionbot import host

host.prepare()  # before torch is imported

from captionbot.pages.gradio.app import LAUNCH, build  # noqa: E402

demo = build().demo

if __name__ == "__main__":
    demo.launch(**LAUNCH)
