"""Labels of tiles: written by the oracle (`write`), read for training (`read`)."""
