"""Symbols <-> bytes: frozen integer tables (`tables.py`) and the rANS coder that uses them (`rans.py`)."""
