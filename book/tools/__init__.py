"""What writes the README's results, the model cards and the support table (in a clone)."""
