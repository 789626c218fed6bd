"""The book's data sets and networks: loading, training, evaluation."""
