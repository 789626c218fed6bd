"""Timings of snnlib against public simulators. See README.md."""
