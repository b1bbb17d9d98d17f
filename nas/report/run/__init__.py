"""A run as data: what its report shows, read from its archive."""
