"""Classkinfy Export: from a two-stage skin-lesion classifier to a verified mobile bundle.

A research and education tool, never a medical device.
"""

import os

# ONNX Runtime writes a device id below HOME when it is imported, and reports usage, unless it is
# told not to before. Whatever of this package imports it, and whatever it starts, comes after this.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
