"""The residual's encoder."""
