"""What becomes of a prediction: JSON, CSV, terminal, plots, annotated videos."""
