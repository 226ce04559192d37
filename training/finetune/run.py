"""A whole fine-tuning: from the options to a folder with checkpoints, a log and the graphs of the best epoch."""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from action_clip.commands.data import dataset_of
from action_clip.data.dataset import Dataset
from action_clip.errors import ActionClipError
from action_clip.export.clip.assemble import Networks
from action_clip.output.stdout import write_stdout
from action_clip.system.cores import usable_cores
from action_clip.system.interrupts import interruptible
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, read_prompts
from action_clip.training.finetune.beginning import Beginning, Wanted, from_checkpoint, from_scratch
from action_clip.training.finetune.devices import fabric_of, workers_of
from action_clip.training.finetune.epochs import Training, described
from action_clip.training.finetune.run_folder import LABELS, TRAINING, RunFolder
from action_clip.training.finetune.schedule import Strategy, make_strategy
from action_clip.training.finetune.settings import Settings, check_same, settings_of
from action_clip.training.finetune.sizes import SIZES
from action_clip.training.finetune.trainer import make_texts

_LOG = logging.getLogger("action_clip")


def run(options: argparse.Namespace) -> int:
    """Train, and return the exit code 0. Errors are those of `finetune.fine_tune`.

    Ctrl-C ends it at once: the checkpoints that are there are whole.
    """
    folder = RunFolder(Path(options.out))
    try:
        interruptible(lambda: _run(options, folder), awaited_at_exit=False)
    except KeyboardInterrupt:
        if folder.last.is_file():
            _LOG.warning("stopped: %s is whole, --resume goes on after it", folder.last)
        else:
            _LOG.warning("stopped before the first epoch was over: nothing is kept")
        raise
    return 0


def _run(options: argparse.Namespace, folder: RunFolder) -> None:
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    folder.check(resume=options.resume)
    training, validation = _parts(dataset_of(options))
    prompts = read_prompts(options.prompts) if options.prompts else DEFAULT_PROMPTS
    settings = settings_of(options, training, validation, prompts)
    strategy = make_strategy(settings.strategy, settings.unfreeze_at, settings.unfreeze_layers, settings.epochs)
    saved = folder.load() if options.resume else None
    if saved is not None:
        check_same(saved[TRAINING]["settings"], settings)
        settings = replace(settings, begins_with=saved[TRAINING]["settings"]["begins_with"])
    beginning = _beginning(options, folder)
    fabric = fabric_of(options)
    _check_fit(settings, strategy, beginning.networks, fabric.world_size)
    texts = make_texts(training.classes, prompts)
    folder.make(resume=options.resume)
    # Each device has a process of its own, which has come here in the same way.
    fabric.launch()
    if not fabric.is_global_zero:
        _LOG.setLevel(logging.ERROR)
    workers = workers_of(options, fabric)
    work = Training(fabric, folder, settings, beginning, strategy, texts, training, validation, workers)
    if saved is not None:
        work.go_on(saved)
    del saved
    work.run()
    if fabric.is_global_zero:
        work.report_failures()
        _finish(work, folder, settings, export=not options.no_export)


def _parts(dataset: Dataset) -> tuple[Dataset, Dataset | None]:
    """Return the clips for training, and those for validation if there are any; those for testing are left alone."""
    chosen = [index for index, example in enumerate(dataset.examples) if example.split in ("train", None)]
    return dataset.taken(chosen), dataset.part("val") if "val" in dataset.splits else None


def _beginning(options: argparse.Namespace, folder: RunFolder) -> Beginning:
    if options.resume:
        return from_checkpoint(str(folder.last), Wanted())  # which says what was wanted
    wanted = Wanted(options.fusion, options.frames, options.activation, options.trust, options.seed)
    if options.checkpoint:
        return from_checkpoint(options.checkpoint, wanted)
    if options.scratch:
        return from_scratch(SIZES[options.scratch], wanted)
    raise ActionClipError("there is nothing to begin with: give --checkpoint FILE, or --scratch SIZE")


def _check_fit(settings: Settings, strategy: Strategy, networks: Networks, devices: int) -> None:
    """Raise ActionClipError where there is nothing to train, or batches cannot be shared."""
    if strategy.name == "freeze" and not [*networks.fusion.parameters()]:
        raise ActionClipError(
            f"--strategy freeze trains the fusion alone, and {networks.fusion_name} has no weights: choose another"
        )
    if settings.batch_size % devices:
        raise ActionClipError(
            f"{devices} devices cannot share batches of {settings.batch_size} clips: give a multiple of {devices} with "
            "--batch-size"
        )


def _finish(work: Training, folder: RunFolder, settings: Settings, *, export: bool) -> None:
    """Export the best epoch into the folder, and print which one it is and how it is used."""
    best = folder.best if "top1" in work.best else folder.last
    lines = f"best: {described(work.best, settings.epochs)} ({best})\n"
    if export:
        from action_clip.export.model import export_folder
        from action_clip.export.source_model import ExportOptions

        _LOG.warning("exporting %s", best)
        export_folder(best, folder.path, "zero-shot", "fp32", ExportOptions())
        lines += (
            f"\nwrote {folder.path}: action-clip --model {folder.path} --desc_file {folder.path / LABELS} --video …\n"
        )
    else:
        lines += f"\nwrote {best}: action-clip export {best} --out FOLDER\n"
    write_stdout(lines)
