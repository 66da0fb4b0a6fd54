"""A static site over what kvsim wrote: recognised by content, one index, a page an artefact, comparisons."""
