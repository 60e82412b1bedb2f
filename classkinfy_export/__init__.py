"""Classkinfy Export: from a two-stage skin-lesion classifier to a verified mobile bundle.

A research and education tool, never a medical device.
"""

__version__ = "0.1.0"
