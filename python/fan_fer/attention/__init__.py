"""Frame attention networks: the network, its weights files, the scores of clips, and export."""
