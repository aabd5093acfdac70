# The Streamlit page: docker build -t captionbot . && docker run -p 8501:8501 captionbot
# The Gradio page:    docker run -p 7860:7860 captionbot python gradio_app.py
FROM python:3.12-slim

# Without a GPU, PyTorch's CPU build is much smaller: --build-arg TORCH_INDEX=ADDRESS, where ADDRESS is what
# the selector on pytorch.org shows for "CPU".
ARG TORCH_INDEX=""

WORKDIR /app
COPY requirements.txt .
RUN ${TORCH_INDEX:+env PIP_INDEX_URL="$TORCH_INDEX"} pip install --no-cache-dir $(grep -E '^torch(vision)?[<>=]' requirements.txt) \
    && pip install --no-cache-dir -r requirements.txt

COPY . .
RUN useradd --create-home app
USER app
# Nothing is fetched at run time.
ENV HF_HUB_OFFLINE=1 GRADIO_SERVER_NAME=0.0.0.0 GRADIO_ANALYTICS_ENABLED=False PYTHONUNBUFFERED=1
EXPOSE 8501 7860
CMD ["streamlit", "run", "streamlit_app.py", "--server.address=0.0.0.0", "--server.port=8501", "--server.headless=true"]
