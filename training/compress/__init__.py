"""Trained captioners made small: averaged, rounded, exported."""
