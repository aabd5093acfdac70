"""The views of the Streamlit page, one a module: widgets only; captionbot works everything out."""
