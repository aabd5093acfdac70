"""Captioners on disk: cards, weights, downloads, importers."""
