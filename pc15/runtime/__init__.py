"""Execution of code: devices, compiled loops, cached results, threads.  Nothing here knows of pictures."""
