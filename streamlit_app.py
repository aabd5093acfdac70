"""The Streamlit page, where hosts look for it: `streamlit run streamlit_app.py`."""

from captionbot import host

host.prepare()  # before torch is imported

with host.IMPORTS:
    from captionbot.pages.streamlit.app import main

if __name__ == "__main__":
    main()
