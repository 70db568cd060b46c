"""Video data sets: their layouts on disk, and the aligned faces that ``fan-fer prepare`` makes of them once."""
