"""Faces in frames: detectors, alignment, and who is who over time."""
