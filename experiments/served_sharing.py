"""Whether prompts sent to a server over HTTP hit what the same prompts hit in a run: turns, cache, blocks, policy."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "served_sharing", *sys.argv[1:]]))
