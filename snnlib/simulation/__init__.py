"""A network in time: what it sends, what it answers, what it costs."""
