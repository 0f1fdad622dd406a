"""The programs that run: the monitor, the collector, and the work on files.

Nothing is re-exported: a collector's host must not load packages that only the monitor needs.
"""
