"""Scores, comparisons and tables of them."""
