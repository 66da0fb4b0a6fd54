"""What real engines did, read from files, and comparison with it."""
