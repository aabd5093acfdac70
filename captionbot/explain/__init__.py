"""What a caption rests on, and what would change it."""
