"""The views of the Gradio page, one a module, and what they use: `view` has what they share, `settings` what
is asked of captioners; `work` runs models, `draw` shows what they said, `api` serves programs."""
