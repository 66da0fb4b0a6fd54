"""How long does KV take from a prefill to a decode instance, and how much of it does a connector hide?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w16", *sys.argv[1:]]))
