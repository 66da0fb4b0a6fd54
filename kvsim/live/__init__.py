"""A server that runs, beside what is predicted for it: measured, predicted, compared, and brought to agree."""
