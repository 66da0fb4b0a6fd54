"""What follows from the rows of a design: paired differences with intervals, tables, reports, merging, comparison."""
