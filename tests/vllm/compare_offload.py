"""Compare recordings of vLLM's offloading connector with kvsim, request by request: `PYTHONPATH=tests`.

    python tests/vllm/compare_offload.py FILE...

Every request's hits and loads, first and last token, and what memory holds and has evicted, must be the same.
"""

import sys
from pathlib import Path

from offload_replay import Compared, compare


def line(name: str, compared: Compared) -> str:
    if compared.is_identical:
        return f"{name}: {len(compared.found)} requests, {compared.steps} steps, identical"
    place = next(iter(compared.differing), None)
    first = "" if place is None else f", first r{place}: {compared.recorded[place]}, here {compared.found[place]}"
    loaded = (sum(answer[1] for answer in answers) for answers in (compared.recorded, compared.found))
    return (
        f"{name}: {len(compared.differing)} of {len(compared.found)} requests differ{first}; "
        f"loaded tokens {' and '.join(f'{tokens:,}' for tokens in loaded)}, "
        f"chunks in memory and evicted {compared.recorded_memory} and {compared.found_memory}"
    )


def main() -> int:
    failed = 0
    for path in map(Path, sys.argv[1:]):
        compared = compare(path)
        print(line(path.name, compared), flush=True)
        failed += not compared.is_identical
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
