"""What varying and shared links cost: transfers alone, PD, and PD that its links bind, with jitter and contention."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "network_variance", *sys.argv[1:]]))
