"""Labels of tiles: written by the oracle (`write`), read for training (`read`)."""

from pc15learn.labels.write import make_labels

__all__ = ["make_labels"]
