"""How fast links between instances have to be: PD with NICs of 25 to 400 Gb/s, beside unified serving."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "interconnect", *sys.argv[1:]]))
