"""Every study, one after the other, and what each concludes."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "run_all", *sys.argv[1:]]))
