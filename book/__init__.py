"""The book: chapters, experiments and the tools that write what is generated."""
