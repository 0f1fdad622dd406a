"""The dashboards as programs: ``python -m dashboards.grafana.source`` writes their JSON."""
