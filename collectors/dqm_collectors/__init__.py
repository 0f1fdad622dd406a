"""Sources of detector events; each yields batches and knows nothing of what becomes of them."""
