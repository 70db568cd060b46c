"""Ways to make one clip of its frames beside the paper's, a file each, and the register of their names."""
