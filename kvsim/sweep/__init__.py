"""Sweeps: a simulation for every combination of values, on one machine or many, in a table that survives being killed.

A ``Sweep`` (``sweep.py``) is what a file says. Its runs are numbered and known before any begins (``plan.py``); a
worker makes a row of each (``tasks.py``, ``work.py``), wherever it stands (``executors.py``); rows are appended to a
table as runs end (``table.py``), and what stands there is not run again (``drive.py``). Then it is sorted
(``finished.py``), and its points are ranked (``ranking.py``).
"""
