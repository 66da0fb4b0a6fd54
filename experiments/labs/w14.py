"""When is a mixture of experts as fast as its active part, and what do whole experts and their load change?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w14", *sys.argv[1:]]))
