"""Shards of work, shared out to this process, to several, or to a Ray cluster."""
