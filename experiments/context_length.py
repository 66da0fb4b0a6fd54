"""What long prompts do to unified serving and to PD: equal requests of several context lengths."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "context_length", *sys.argv[1:]]))
