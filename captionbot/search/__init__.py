"""Beam search: options, constraints, the search and its reranker."""
