"""``python -m kvsim``: the command."""

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
