import sys

try:
    from kvsim.cli import main

    code = main()
except KeyboardInterrupt:  # before the command line is there to answer it
    print("kvsim: interrupted", file=sys.stderr)
    code = 1
raise SystemExit(code)
