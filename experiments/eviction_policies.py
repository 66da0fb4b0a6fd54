"""Which policy should run a tier: the single node's, and eviction by session, beside LRU and the oracle."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "eviction_policies", *sys.argv[1:]]))
