"""Which roof does a decode step hit, and how near to it is a measured one?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w03", *sys.argv[1:]]))
