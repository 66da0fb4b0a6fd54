"""One file a study: its cases, typed rows, one sentence, one figure. Nothing else has to know of it."""
