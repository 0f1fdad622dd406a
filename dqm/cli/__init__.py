"""The command line: arguments in, text out; no logic.

Rooms that need torch are imported by the commands that compute: it takes seconds, and ``dqm --help`` must
not.
"""
