"""Which way to move KV: TTFT of each strategy against the configured one."""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["study", "transfer_strategies", *sys.argv[1:]]))
