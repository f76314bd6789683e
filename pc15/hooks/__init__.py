"""Hooks that narrow the encoder's search: rules over a residual's structure, small nets in whole numbers.

Hooks propose, the integer search decides; a stream made with them decodes like any other.
"""
