"""Who serves a design: a simulated server, one that is up, one that is started here, one on a rented GPU."""
