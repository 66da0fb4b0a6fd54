"""How do TTFT and ITL grow with the request rate, by vLLM's rules and by SGLang's?"""

import sys

from kvsim.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["lab", "w01", *sys.argv[1:]]))
