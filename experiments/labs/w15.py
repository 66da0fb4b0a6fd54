"""What do tiers below the GPU save, what survives a restart, and how large should a chunk be?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w15", *sys.argv[1:]]))
