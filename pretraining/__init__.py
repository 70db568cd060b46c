"""How the packaged weights were made: a backbone trained on single faces, then attention trained on clips."""
