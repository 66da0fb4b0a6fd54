"""What prefix caching saves: shared prefixes by their length, users and share of requests, beside hand calculations."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "prefix_caching", *sys.argv[1:]]))
