"""What do CUDA graphs save by batch and by model, and what do they cost in start-up time and memory?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w10", *sys.argv[1:]]))
