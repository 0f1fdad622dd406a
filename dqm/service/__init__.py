"""The programs that run for months: the daemon and the collector; and the demonstration that starts both.

Nothing is re-exported: a collector's host should not have to load what only the daemon computes with.
"""
