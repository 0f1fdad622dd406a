"""Work on files instead of streams: extraction, comparison."""
