"""The Gradio page and Hugging Face Space, where hosts look for it: `python gradio_app.py`."""

from captionbot import host

host.prepare()  # before torch is imported

from captionbot.pages.gradio.app import build, launch_options  # noqa: E402

demo = build().demo

if __name__ == "__main__":
    demo.launch(**launch_options())
