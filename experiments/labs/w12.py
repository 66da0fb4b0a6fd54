"""What do 8 and 4 bits of weights buy in memory and speed, and what do they cost in accuracy?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w12", *sys.argv[1:]]))
