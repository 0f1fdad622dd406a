"""Sources of slow-control readings; each tells the latest it knows and nothing of what becomes of it."""
