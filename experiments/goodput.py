"""How much is served within the SLO as load grows: unified serving and PD on the same GPUs."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "goodput", *sys.argv[1:]]))
