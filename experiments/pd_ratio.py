"""Which prefill:decode ratio serves most: every ratio is offered more than any can take."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "pd_ratio", *sys.argv[1:]]))
