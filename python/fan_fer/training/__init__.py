"""Training and its protocols: recipes, frame sampling, features of a frozen backbone, runs that resume."""
