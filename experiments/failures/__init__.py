"""When a self-reward misleads: length, wrong modes, ties."""
