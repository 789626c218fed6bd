"""The rules of conversion."""
