"""Reports that a person opens: one self-contained page, plots included."""
