"""A small detector, from the agreement of teachers."""
