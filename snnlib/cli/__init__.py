"""The commands of ``snnlib``: each module has SUMMARY, EXAMPLES, add_options and execute."""
