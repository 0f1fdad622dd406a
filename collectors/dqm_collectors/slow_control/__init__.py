"""Sources of slow-control readings; each returns the latest readings, independent of how they are used."""
