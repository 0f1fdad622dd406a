"""The programs that run: the monitor, the collector, and the work on files.

Nothing is re-exported: a collector's host must not load what only the monitor computes with.
"""
