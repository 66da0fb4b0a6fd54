"""Compare kvsim's steps with recordings of SGLang's scheduler: `python tests/sglang/compare.py FILE...`."""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))

from sglang_replay import first_difference, read


def main(files: list[str]) -> int:
    """Print the first difference of each recording that has one, and the steps that are identical by feature."""
    steps, same = Counter[str](), Counter[str]()
    for file in files:
        recording = read(Path(file))
        config, found = recording["config"], first_difference(recording)
        total = len(recording["steps"])
        alike = total if found is None else max(found[0], 0)
        for feature in features(config):
            steps[feature] += total
            same[feature] += alike
        if found is not None:
            step, name, recorded, ours = found
            print(f"{Path(file).name}: step {step} of {total}, {name}: recorded {recorded}, found {ours}")
    for feature in steps:
        print(f"{feature}: {same[feature]:,} of {steps[feature]:,} steps identical")
    return int(same != steps)


def features(config: dict) -> list[str]:
    """What a recording counts for."""
    return [
        "all",
        config["schedule_policy"],
        "without overlap" if config["disable_overlap_schedule"] else "with overlap",
        "mixed chunks" if config["enable_mixed_chunk"] and config["chunked_prefill_size"] > 0 else "prompts alone",
        f"page {config['page_size']}",
        "without cache" if config["disable_radix_cache"] else "with cache",
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
