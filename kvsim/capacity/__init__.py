"""How many requests a second a cluster can serve: by arithmetic, and by the runs that check it."""
