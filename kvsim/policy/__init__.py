"""Small rules behind small Protocols. Nothing here knows of SimPy."""
