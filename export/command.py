"""`action-clip export`, the exporter's command: see --help."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from action_clip.errors import ActionClipError
from action_clip.export.choices import ACTIVATIONS, FUSIONS, PRECISIONS
from action_clip.models.catalog.specs import ModelSpec, catalog, find
from action_clip.system.cores import usable_cores
from action_clip.system.terminal import ArgumentParser, printable, sentence

PROGRAM = "action-clip export"
NANO = Path(__file__).parent.parent / "models" / "nano"

Work = Callable[[], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exporter and return its exit code: 0, 1 after an error, 130 after Ctrl-C; argparse exits with 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Not argparse's sub-parsers: beside them it takes no positional argument, and SOURCE is one.
    sub_command = _SUB_COMMANDS.get(arguments[0]) if arguments else None
    parser = build_parser() if sub_command is None else sub_command()
    options = parser.parse_args(arguments if sub_command is None else arguments[1:])
    work: Work = options.prepare(parser, options)
    try:
        _run(work)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of stdout has closed it
        return 1
    except ImportError as error:
        advice = "pip install 'action-clip[export]', or in a clone pip install -r requirements-export.txt"
        print(printable(f"{error}: {advice}"), file=sys.stderr)
    except OSError as error:  # names that are no paths, and disks that fail
        fault = f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error}): name another one"
        print(sentence(ActionClipError(fault)), file=sys.stderr)
    except ActionClipError as error:
        print(sentence(error), file=sys.stderr)
    else:
        return 0
    return 1


def _run(work: Work) -> None:
    from action_clip.export.progress import ProgressHandler

    log = logging.getLogger("action_clip")
    with ProgressHandler() as handler:
        # Progress is of this program only; libraries log only errors.
        logging.basicConfig(level=logging.ERROR, handlers=[handler])
        log.setLevel(logging.INFO)
        log.info("loading PyTorch")
        import torch

        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
        work()


def build_parser() -> ArgumentParser:
    """Return the parser of `action-clip export` without a sub-command."""
    names = ", ".join(spec.name for spec in catalog() if spec.checkpoint is not None)
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Turn a CLIP or ActionCLIP checkpoint into the three ONNX graphs that action-clip runs.",
        epilog=f"Other commands, each with its own --help: `{PROGRAM} timesformer SOURCE` turns a TimeSformer "
        f"checkpoint into its one graph; `{PROGRAM} nano` rebuilds the embedded model.",
    )
    source = (
        "a checkpoint: official ActionCLIP, mmaction2, OpenAI CLIP, open_clip (file or folder), Hugging Face "
        f"CLIPModel (folder); or a model of the catalog, whose checkpoint is downloaded: {names}"
    )
    return _with_checkpoint_options(parser, "zero-shot", source)


def build_timesformer_parser() -> ArgumentParser:
    """Return the parser of `action-clip export timesformer`."""
    parser = ArgumentParser(
        prog=f"{PROGRAM} timesformer",
        description="Turn a TimeSformer checkpoint into the ONNX graph that action-clip runs.",
    )
    source = (
        "a checkpoint: the original code's, mmaction2's, Hugging Face TimesformerForVideoClassification (folder); or "
        "timesformer_k400_8x224, whose checkpoint is downloaded"
    )
    return _with_checkpoint_options(parser, "closed-set", source)


def build_nano_parser() -> ArgumentParser:
    """Return the parser of `action-clip export nano`."""
    parser = ArgumentParser(
        prog=f"{PROGRAM} nano",
        description="Rebuild the embedded model from two weight packages and WordNet; its text graph is trained.",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=NANO, help="default: the embedded model's folder")
    parser.add_argument(
        "--wordnet", metavar="FOLDER", type=Path, default=Path("/usr/share/wordnet"), help="default: %(default)s"
    )
    parser.add_argument("--steps", type=int, default=800, help="training steps of 1024 texts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.set_defaults(prepare=_nano)
    return parser


_SUB_COMMANDS = {"timesformer": build_timesformer_parser, "nano": build_nano_parser}


def _with_checkpoint_options(parser: ArgumentParser, kind: str, source: str) -> ArgumentParser:
    parser.set_defaults(prepare=_checkpoint, kind=kind)
    parser.add_argument("source", metavar="SOURCE", nargs="?", help=source)
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, help="where the graphs go; those of a catalog model have their own place"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="fp16: half the size, runs as fp32; int8: a quarter, and faster (default: %(default)s)",
    )
    parser.add_argument("--fusion", choices=FUSIONS, help="refuse a checkpoint with another fusion than this")
    parser.add_argument("--frames", metavar="T", type=int, help="of a clip (default: what the weights ask for, else 8)")
    parser.add_argument("--activation", choices=ACTIVATIONS, help="where the checkpoint does not say it")
    parser.add_argument(
        "--licence",
        metavar="TEXT",
        default="not stated",
        help="of the weights, for the metadata (default: %(default)s)",
    )
    parser.add_argument(
        "--trust", action="store_true", help="let the file run code while it is read; only if you know its source"
    )
    parser.add_argument("--check", metavar="FOLDER", type=Path, help="compare an exported folder with its checkpoint")
    parser.add_argument("--against", metavar="CHECKPOINT", type=Path, help="what --check compares with")
    return parser


def _nano(parser: ArgumentParser, options: argparse.Namespace) -> Work:
    if options.steps < 1:
        parser.error("--steps must be above 0")

    def work() -> None:
        from action_clip.export.nano.build import build

        build(options.out, options.wordnet, options.steps, options.seed)

    return work


def _checkpoint(parser: ArgumentParser, options: argparse.Namespace) -> Work:
    if options.check is not None or options.against is not None:
        return _check(parser, options)
    if options.source is None:
        parser.error("give a checkpoint, a name of the catalog, or nano")
    if options.frames is not None and not 1 <= options.frames <= 1024:
        parser.error("--frames must be from 1 to 1024")
    spec = find(options.source)
    if spec is not None:
        return _named(parser, options, spec)
    if options.out is None:
        example = Path(options.source).stem or "graphs"
        parser.error(f"--out FOLDER is needed: where the graphs go, such as --out {example}")

    def work() -> None:
        from action_clip.export.model import export_folder
        from action_clip.export.source_model import ExportOptions

        stated = ExportOptions(options.fusion, options.frames, options.activation, options.licence, options.trust)
        print(export_folder(Path(options.source), options.out, options.kind, options.precision, stated))
        print(printable(f"\nwrote {options.out}: action-clip --model {options.out} --video …", lines=True))

    return work


def _named(parser: ArgumentParser, options: argparse.Namespace, spec: ModelSpec) -> Work:
    if options.kind == "closed-set" != spec.kind:
        parser.error(f"{spec.name} is no TimeSformer: leave out the word timesformer")
    if spec.checkpoint is None:
        parser.error(f"{spec.name} needs no export: action-clip --model {spec.name} uses it as it is")
    for option in ("fusion", "frames", "activation", "licence"):
        if getattr(options, option) != parser.get_default(option):
            parser.error(f"leave out --{option}: the catalog says it of {spec.name}")

    def work() -> None:
        from action_clip.export.model import export_named

        print(export_named(spec, options.precision, options.out, trust=options.trust))
        model = options.out or spec.name
        print(printable(f"\ninstalled {spec.name}: action-clip --model {model} --video …", lines=True))

    return work


def _check(parser: ArgumentParser, options: argparse.Namespace) -> Work:
    if options.check is None:
        parser.error("--against belongs to --check")
    if options.against is None:
        parser.error("--check needs --against CHECKPOINT")
    for option in ("source", "out", "precision", "fusion", "frames", "activation", "licence"):
        if getattr(options, option) != parser.get_default(option):
            parser.error(f"leave out {option if option == 'source' else f'--{option}'}: --check reads what is there")

    def work() -> None:
        from action_clip.export.model import check

        print(check(options.check, options.against, trust=options.trust))

    return work
