"""What does automatic prefix caching save as prompts share more, and how many blocks does an FP8 KV cache add?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w05", *sys.argv[1:]]))
