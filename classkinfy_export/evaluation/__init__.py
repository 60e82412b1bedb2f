"""How good a model is: figures with intervals, on any data, from any runtime."""
