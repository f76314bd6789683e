"""Procedural patterns: what each draws, from which parameters, and how levels become pixels."""
