"""Captions as plain dictionaries: the lines of `--format jsonl`, and the JSON that the pages hand out."""

from __future__ import annotations

from typing import Any

from captionbot.types import Caption, Captioned

_DIGITS = 6  # more would be noise of the arithmetic, and three times the bytes


def record(
    image_name: str, model_name: str, captioned: Captioned, *, with_alphas: bool = False
) -> dict[str, Any]:
    """{"image", "model", "captions": [{"text", "log_prob", "words": [{"text", "log_prob"}]}]}, best first.

    with_alphas: also where the model looked. Each caption then has "image_size" (width, height),
    "grid" (rows, columns; null for regions) and "boxes" (P of xyxy, pixels), each word "alphas" (P).
    """
    captions = [_caption(caption, with_alphas) for caption in captioned.captions]
    return {"image": image_name, "model": model_name, "captions": captions}


def error_record(image_name: str, message: str) -> dict[str, Any]:
    """The line of an image that could not be captioned: {"image", "error"}."""
    return {"image": image_name, "error": message}


def _caption(caption: Caption, with_alphas: bool) -> dict[str, Any]:
    words: list[dict[str, Any]] = [
        {"text": word.text, "log_prob": round(float(word.log_prob), _DIGITS)} for word in caption.words
    ]
    fields: dict[str, Any] = {
        "text": caption.text,
        "log_prob": round(float(caption.log_prob), _DIGITS),
        "words": words,
    }
    if with_alphas:
        for word, alphas in zip(words, caption.alphas, strict=True):
            word["alphas"] = alphas.astype(float).round(_DIGITS).tolist()
        fields["image_size"] = list(caption.image_size)
        fields["grid"] = None if caption.grid is None else list(caption.grid)
        fields["boxes"] = caption.boxes.astype(float).round(2).tolist()
    return fields
