"""What each GB of DRAM, SSD and file system buys: hits, TTFT, and what that costs."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "tier_sizing", *sys.argv[1:]]))
