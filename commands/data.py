"""The options of sub-commands that name data."""

import argparse

from action_clip.commands.arguments import integer_from, nonempty, number
from action_clip.data.dataset import Dataset
from action_clip.data.loading import Source, load_dataset, source_files
from action_clip.data.splits import with_val_split
from action_clip.data.tables import Columns

_MOST_SEED = 2**32 - 1
"""The largest that NumPy's, scikit-learn's and PyTorch's generators all take."""


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the group of options that `dataset_of` reads."""
    add = parser.add_argument_group("the data").add_argument
    add(
        "--data",
        metavar="DATA",
        type=nonempty,
        required=True,
        help="a folder with a folder of clips for each class, perhaps in folders train, val and test; a table, CSV, "
        "TSV or JSON, with columns file and label; Kinetics' CSV; a list, path and id of a class a line; the folder of "
        "UCF101's or HMDB51's split files",
    )
    add(
        "--clips",
        metavar="FOLDER",
        type=nonempty,
        help="where the clips are that a table or list names (default: where it is)",
    )
    add(
        "--classes",
        metavar="FILE",
        type=nonempty,
        help="the names of the classes: lines, CSV, TSV or JSON, with the ids that the data have (default: the labels "
        "that clips have)",
    )
    add("--fold", metavar="N", type=integer_from(1), help="which split of UCF101 or HMDB51: 1, 2 or 3")
    add("--file-column", metavar="NAME", type=nonempty, help="the column of files (default: by its head)")
    add("--label-column", metavar="NAME", type=nonempty, help="the column of labels (default: by its head)")
    add(
        "--multi-label",
        action="store_true",
        help="a clip that comes in several rows, or has several ids in its line, has all these labels",
    )
    add(
        "--val-split",
        metavar="SHARE",
        type=number(least=0, most=1, above=True),
        help="split off this part of the clips, such as 0.2, for validation: groups stay together, and each class has "
        "its share",
    )
    add(
        "--seed",
        metavar="N",
        type=integer_from(0, _MOST_SEED),
        default=0,
        help="of what is random (default: %(default)s)",
    )


def dataset_of(options: argparse.Namespace) -> Dataset:
    """Return the data set that the options name. Raises ActionClipError: see `load_dataset`, `with_val_split`."""
    dataset = load_dataset(_source(options))
    return dataset if options.val_split is None else with_val_split(dataset, options.val_split, options.seed)


def files_of(options: argparse.Namespace) -> list[str]:
    """Return the tables or lists that the options name. Raises ActionClipError: see `source_files`."""
    return source_files(_source(options))[0]


def _source(options: argparse.Namespace) -> Source:
    return Source(
        path=options.data,
        clips=options.clips,
        classes=options.classes,
        fold=options.fold,
        columns=Columns(options.file_column, options.label_column),
        multi_label=options.multi_label,
    )
