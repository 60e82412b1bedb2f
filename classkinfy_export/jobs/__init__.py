"""One call for each thing a person wants; the command line is a thin layer over these.

Jobs stand on both trees: on torch's (stages, training, formats) and on the torch-free one
(bundle, runtimes, parity, latency, reporting).
"""
