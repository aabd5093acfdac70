"""Train, evaluate and export captioners: the sibling package of `captionbot`, which never imports it."""

from captionbot import _old_names

_old_names.install("training", _old_names.TRAINING)
