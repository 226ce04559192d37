"""The processor's seconds for a stage, with one thread: `python -m benchmarks.alone WORK NAME`.

NAME is that of a contestant of ALONE or FILM_ALONE.
"""

import json
import sys
from pathlib import Path
from time import process_time

from benchmarks.contestants import ALONE, FILM_ALONE, find
from benchmarks.inputs import Inputs

RUNS = 30


def main() -> None:
    """Print the mean of RUNS runs, after one to warm up."""
    contestant = find((*ALONE, *FILM_ALONE), sys.argv[2])
    work = contestant.load()(Inputs(Path(sys.argv[1])), *contestant.arguments)
    work()
    began = process_time()
    for _ in range(RUNS):
        work()
    print(json.dumps({"seconds": (process_time() - began) / RUNS}))


if __name__ == "__main__":
    main()
