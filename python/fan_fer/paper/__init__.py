"""The table of the paper, from finished training runs."""
