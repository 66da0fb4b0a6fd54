"""Measured files, predictions beside them, and profiles made of measurements.

What files hold: ``measured_run``, ``operating_points``, ``clients``, ``recording``. What kvsim makes of it:
``predict_run``, ``predict_point``, ``predict_load``, ``replay``. How far apart the two are: ``compare_run``,
``compare_points``, ``compare_loads``. Profiles: ``calibrate``.
"""
