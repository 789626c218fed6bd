"""Figures in one style, and helpers of the notebooks. Needs NumPy and Matplotlib alone."""

from snnlib.plots.figures import *  # noqa: F403
