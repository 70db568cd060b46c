"""How good a network is: scores with intervals, what attention follows, the paper's table, and their pictures."""
