"""The version, where modules can read it without the public API, which stands above them."""

__version__ = "0.1.0"
