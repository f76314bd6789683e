"""The encoder's search: which generator, which parameters, which amplitude each tile deserves."""
