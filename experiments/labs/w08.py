"""How smooth is the stream of tokens for each budget of a chunked prefill, and what does TTFT pay?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w08", *sys.argv[1:]]))
