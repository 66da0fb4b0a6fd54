"""What load clients report of a run, and the requests that they send."""
