"""Which router unified instances should stand behind: simple rules, prefix affinity, and those that people deploy."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "routing", *sys.argv[1:]]))
