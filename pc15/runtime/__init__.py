"""Execution of code: compiled loops, results that are kept, threads.  Nothing here knows of pictures."""
