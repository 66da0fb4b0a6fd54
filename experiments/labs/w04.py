"""How much KV memory does contiguous allocation waste, and what do pages and seats buy?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w04", *sys.argv[1:]]))
