"""What may narrow the encoder's search: features of a residual, rules or small nets that read them.

Hooks propose, the integer search decides; a stream made with them decodes like any other.
"""
