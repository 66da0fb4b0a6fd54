"""What a run did, as files of other tools: one file of this package a format, one registry of them."""
