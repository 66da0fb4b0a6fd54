"""What does a radix cache give few-shot prompts, and how much of it depends on the order of the queue?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w06", *sys.argv[1:]]))
