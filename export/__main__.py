"""`python -m export MODEL`: see --help."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from errors import ActionClipError

NANO = Path(__file__).parent.parent / "models" / "nano"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exporter; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m export", description="Build a model's three ONNX graphs.")
    models = parser.add_subparsers(dest="model", required=True, metavar="MODEL")
    nano = models.add_parser(
        "nano",
        help="the embedded model, from two weight packages and WordNet",
        description="Train the text graph of the embedded model and write its three graphs.",
    )
    nano.add_argument("--out", metavar="FOLDER", type=Path, default=NANO, help="default: the embedded model's folder")
    nano.add_argument(
        "--wordnet",
        metavar="FOLDER",
        type=Path,
        default=Path("/usr/share/wordnet"),
        help="default: %(default)s",
    )
    nano.add_argument("--steps", type=int, default=800, help="training steps of 1024 texts (default: %(default)s)")
    nano.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error("--steps must be above 0")
    # Progress is ours to tell; the libraries say only what worries them.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("action_clip").setLevel(logging.INFO)
    try:
        from export.nano.build import build

        build(options.out, options.wordnet, options.steps, options.seed)
    except ImportError as error:
        print(f"{error}: pip install -r requirements-export.txt", file=sys.stderr)
        return 1
    except ActionClipError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
