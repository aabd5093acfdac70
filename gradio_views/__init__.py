"""The parts of the Gradio page: `work` runs models, `draw` shows what they said, `api` serves programs."""
