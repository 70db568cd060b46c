"""From aligned faces to features: preprocessing, backbone, and the loop that embeds."""
