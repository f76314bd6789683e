"""How code runs: devices, compiled loops, threads.  Nothing here knows of pictures."""
