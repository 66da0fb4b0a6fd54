"""What do batches lose that wait for their longest answer, as answers differ more?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w07", *sys.argv[1:]]))
