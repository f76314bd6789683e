"""Codebooks trained on pictures or on what the oracle chose (`train`), and its compiled loops (`loops`)."""
