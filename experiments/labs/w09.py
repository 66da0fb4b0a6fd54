"""Where do shared prefixes pay: in the order of a queue, in the choice among servers, and without sharing at all?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w09", *sys.argv[1:]]))
