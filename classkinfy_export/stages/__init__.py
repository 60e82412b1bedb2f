"""The modules that are trained and exported: one module, no train/serve skew."""
