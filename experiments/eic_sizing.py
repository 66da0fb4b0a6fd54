"""How large a rack's memory pool has to be: hits and TTFT without one and with several sizes."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "eic_sizing", *sys.argv[1:]]))
