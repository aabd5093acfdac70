"""What both pages share; `streamlit` and `gradio` hold widgets alone."""
