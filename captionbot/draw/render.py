"""What stood in one module in version 0.1, under one name for one release."""

from captionbot.draw.boxes import box_name, regions
from captionbot.draw.files import data_url, gif, png
from captionbot.draw.overlays import COLORMAPS, DISPLAY, LOOK, Look, contours, fit, overlay, word_overlay
from captionbot.draw.sheets import animation, contact_sheet
from captionbot.text.display import percent, plain, sentence

__all__ = [
    "COLORMAPS",
    "DISPLAY",
    "LOOK",
    "Look",
    "animation",
    "box_name",
    "contact_sheet",
    "contours",
    "data_url",
    "fit",
    "gif",
    "overlay",
    "percent",
    "plain",
    "png",
    "regions",
    "sentence",
    "word_overlay",
]
