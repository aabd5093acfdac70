"""What stood in one module in version 0.1, under one name for one release."""

from captionbot.explain.attention_maps import attention_map
from captionbot.explain.attribution import (
    FILLINGS,
    LABELS,
    METHODS,
    WordMaps,
    all_log_probs,
    log_probs_of,
    word_maps,
)
from captionbot.explain.faithfulness import (
    Faithfulness,
    Share,
    by_part_of_speech,
    faithfulness,
    random_maps,
)

__all__ = [
    "FILLINGS",
    "LABELS",
    "METHODS",
    "Faithfulness",
    "Share",
    "WordMaps",
    "all_log_probs",
    "attention_map",
    "by_part_of_speech",
    "faithfulness",
    "log_probs_of",
    "random_maps",
    "word_maps",
]
