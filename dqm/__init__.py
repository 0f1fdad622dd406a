"""Online data-quality monitor for particle detectors."""
