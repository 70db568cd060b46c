"""What every part builds on: errors, files, terminal, processes, device."""
