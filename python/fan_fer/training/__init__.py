"""Training and its protocols: recipes, frame sampling, features of a frozen backbone, runs that resume."""

from fan_fer.base.extras import need

need("train", "fan_fer.training")
