"""Questions that several runs answer, with intervals."""
