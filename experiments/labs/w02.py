"""What does an offline batch's time go to, and how far is the GPU used?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w02", *sys.argv[1:]]))
