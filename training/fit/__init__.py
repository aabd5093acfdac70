"""What is fitted after training: reranker, PCA, tags."""
