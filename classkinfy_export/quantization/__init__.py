"""Quantisation, as far as it is common to all formats."""
