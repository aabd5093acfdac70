"""The Streamlit page, where hosts look for it: `streamlit run streamlit_app.py`."""

from captionbot.pages.streamlit.app import main

if __name__ == "__main__":
    main()
