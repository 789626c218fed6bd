"""Spiking networks trained directly: one file a paper, no imports between papers.

`lif` is the step that they share. Each paper's file has its citation, its equations with shapes,
what is the paper's and what is ours, and one function to call.
"""
