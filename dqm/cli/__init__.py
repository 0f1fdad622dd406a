"""The command line: arguments in, text out; no logic.

Packages that need torch are imported by the commands that compute. Importing them takes seconds, and
``dqm --help`` must be quick.
"""
