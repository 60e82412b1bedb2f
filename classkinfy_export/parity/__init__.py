"""Is every runtime equal to PyTorch: golden vectors, comparison, gates."""
