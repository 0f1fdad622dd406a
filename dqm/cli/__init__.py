"""The command line: arguments in, text out; no logic.

A module holds one command or one group of commands and is loaded when it is used. At its top it imports what
its options need; what computes, stores or serves is imported by the function that uses it, so that ``--help``
is quick, and works where the extra ``monitor`` is not installed.
"""
