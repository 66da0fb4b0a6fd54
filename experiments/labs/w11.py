"""When does speculative decoding pay: by method, by the number of drafts, and by load?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w11", *sys.argv[1:]]))
