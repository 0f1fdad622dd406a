"""Sources of detector events; each yields batches, independent of how they are used."""
