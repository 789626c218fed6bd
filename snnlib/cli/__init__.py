"""The commands of ``snnlib``."""
