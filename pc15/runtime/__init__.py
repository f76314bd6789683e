"""Running code: devices, compiled loops, threads.  Nothing here knows of pictures."""
