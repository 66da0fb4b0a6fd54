"""The simulated engine behind an OpenAI-compatible HTTP server, in real time or sped up.

``app`` has the routes, ``engine`` what stands behind them: tokens, prefixes, answers and the ``pump``, which lets
simulated time run with the wall clock's.
"""
