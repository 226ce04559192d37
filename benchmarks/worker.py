"""One contestant of a stage in a warm process: `python -m benchmarks.worker WORK STAGE NAME`.

benchmarks.measure starts it. It prepares the work, writes a line of JSON, and then works once for each line on its
standard input.
"""

import contextlib
import json
import os
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.contestants import STAGES, find
from benchmarks.inputs import Inputs

# Most numbers of an answer that are sent for comparison.
MOST_NUMBERS = 4096


def main() -> None:
    """Prepare the work, send the answer, then work and send the seconds for each line of input."""
    work_folder, stage, name = sys.argv[1:]
    # Libraries may print on stdout, so messages go to a copy of it, and stdout becomes stderr.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**message: object) -> None:
        print(json.dumps(message), file=channel)

    try:
        contestant = find(STAGES[stage], name)
        work = contestant.load()(Inputs(Path(work_folder)), *contestant.arguments)
        answer = work()
    except ImportError as error:
        say(absent=str(error))
        return
    work()
    numbers = [] if answer is None else np.asarray(answer, np.float64).ravel()[:MOST_NUMBERS].tolist()
    say(answer=numbers)
    for _ in sys.stdin:
        began = perf_counter()
        work()
        say(seconds=perf_counter() - began)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
