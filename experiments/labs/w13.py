"""How much faster is a step on two and four GPUs, and what share of it do all-reduces take?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w13", *sys.argv[1:]]))
