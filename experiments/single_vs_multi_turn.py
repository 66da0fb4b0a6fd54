"""What a prefix cache shared by single prompts and conversations should be: its size, its blocks, whom it evicts."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "single_vs_multi_turn", *sys.argv[1:]]))
