"""Latency on a phone, over ``adb``: the demo app, and the runtimes' own benchmark tools."""
