"""Sizes that the search and the choice among ways to code a plane go by."""

from __future__ import annotations

SCREEN = 32
"""Side, px, of the resolution that large tiles are screened at."""
