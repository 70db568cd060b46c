"""Predictions for all videos of a CSV file (docs/many-videos.md)."""
