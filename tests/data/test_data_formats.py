"""Data sets in the forms that are published and used: what is read of each."""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from action_clip import ActionClipError
from action_clip.data.dataset import Dataset, Example
from action_clip.data.loading import Source, load_dataset
from action_clip.data.tables import Columns

Loaded = list[tuple[str, list[str], str | None]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes texts, and empty files for clips, by their paths; returns the folder."""

    def files(texts: dict[str, str] | None = None, clips: Iterable[str] = ()) -> Path:
        for name, text in {**(texts or {}), **dict.fromkeys(clips, "")}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, "utf-8")
        return tmp_path

    return files


def content(dataset: Dataset, root: Path) -> Loaded:
    """Each example's path below the root, labels and split."""
    return [
        (Path(each.video).relative_to(root).as_posix(), [dataset.classes[label] for label in each.labels], each.split)
        for each in dataset.examples
    ]


def test_a_folder_for_each_class(write: Callable[..., Path]) -> None:
    clips = ["riding_a_bike/b.mp4", "archery/a.MKV", "archery/more/c.webm", "archery/.hidden.mp4", "archery/notes.txt"]
    folder = write(clips=clips)
    dataset = load_dataset(str(folder))
    assert dataset.classes == ("archery", "riding a bike")
    assert dataset.names == ("archery", "riding_a_bike")
    assert content(dataset, folder) == [
        ("archery/a.MKV", ["archery"], None),
        ("archery/more/c.webm", ["archery"], None),
        ("riding_a_bike/b.mp4", ["riding a bike"], None),
    ]
    assert (dataset.splits, dataset.counts, dataset.missing, dataset.is_multi_label) == ((), (2, 1), (), False)


def test_flashs_folders_have_splits(write: Callable[..., Path]) -> None:
    folder = write(
        clips=["train/archery/-1q7jA3DXQM_000005_000015.mp4", "validation/bowling/x.mp4", "test/archery/y.mp4"]
    )
    dataset = load_dataset(str(folder))
    assert content(dataset, folder) == [
        ("test/archery/y.mp4", ["archery"], "test"),
        ("train/archery/-1q7jA3DXQM_000005_000015.mp4", ["archery"], "train"),
        ("validation/bowling/x.mp4", ["bowling"], "val"),
    ]
    assert dataset.splits == ("train", "val", "test")
    assert dataset.examples[1].group == "-1q7jA3DXQM"
    assert content(dataset.part("val"), folder) == [("validation/bowling/x.mp4", ["bowling"], "val")]
    assert dataset.part("val").classes == ("archery", "bowling")
    with pytest.raises(ActionClipError, match="has no clips for val"):
        load_dataset(str(folder / "train")).part("val")


def test_a_class_may_be_called_train(write: Callable[..., Path]) -> None:
    folder = write(clips=["train/a.mp4", "bus/b.mp4"])
    assert load_dataset(str(folder)).classes == ("bus", "train")


def test_splits_and_classes_beside_each_other_are_not_told_apart(write: Callable[..., Path]) -> None:
    folder = write(clips=["train/archery/a.mp4", "bus/b.mp4"])
    with pytest.raises(ActionClipError, match=r"has splits \('train'\) and other folders with videos \('bus'\)"):
        load_dataset(str(folder))


def test_videos_beside_the_classes_are_named(write: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    folder = write(clips=["archery/a.mp4", "b.mp4"])
    with caplog.at_level(logging.WARNING, "action_clip"):
        assert len(load_dataset(str(folder))) == 1
    assert caplog.messages == [f"videos that lie in no folder of a class are left out: 1 in {folder}, such as b.mp4"]


ROWS = [("a.mp4", ["arm wrestling"], None), ("b.mp4", ["archery"], None)]
TABLES = {
    "commas": ("clips.csv", "file,label\na.mp4,arm wrestling\nb.mp4,archery\n"),
    "tabs": ("clips.tsv", "Video Path\tClass Name\na.mp4\tarm_wrestling\nb\tarchery\n"),
    "semicolons": ("clips.csv", 'label;filename\n"arm wrestling";a.mp4\narchery;b.mp4\n'),
    "other columns": ("clips.csv", "id,path,action,tier\n7,a.mp4,arm wrestling,hard\n8,b.mp4,archery,clean\n"),
    "no header": ("clips.csv", "a.mp4,arm wrestling\nb.mp4,archery\n"),
    "a mark and windows' line ends": ("clips.csv", "\ufefffile,label\r\na.mp4,arm wrestling\r\n\r\nb.mp4,archery\r\n"),
    "objects": ("clips.json", '[{"file": "a.mp4", "label": "arm wrestling"}, {"file": "b.mp4", "label": "archery"}]'),
    "by file": ("clips.json", '{"a.mp4": "arm wrestling", "b": ["archery"]}'),
    "lines": ("c.jsonl", '{"video": "a.mp4", "labels": ["arm wrestling"]}\n{"video": "b.mp4", "labels": "archery"}\n'),
}


@pytest.mark.parametrize(("name", "text"), TABLES.values(), ids=list(TABLES))
def test_a_table(write: Callable[..., Path], name: str, text: str) -> None:
    folder = write({name: text}, clips=["a.mp4", "b.mp4"])
    for path in (folder / name, folder):
        dataset = load_dataset(str(path))
        assert content(dataset, folder) == ROWS
        assert dataset.classes == ("archery", "arm wrestling")
    assert load_dataset(str(folder / name)).name == name


def test_columns_of_a_table(write: Callable[..., Path]) -> None:
    text = (
        "file,label,split,group,start,end\na.mp4,run,train,g1,1.5,2\na.mp4,walk,train,,3,4.5\nb.mp4,run,validate,g1,,\n"
    )
    folder = write({"clips.csv": text}, clips=["a.mp4", "b.mp4"])
    a, b = str(folder / "a.mp4"), str(folder / "b.mp4")
    assert load_dataset(str(folder / "clips.csv")).examples == (
        Example(a, (0,), "g1", "train", 1.5, 2.0),
        Example(a, (1,), None, "train", 3.0, 4.5),
        Example(b, (0,), "g1", "val"),
    )


def test_columns_that_are_named(write: Callable[..., Path]) -> None:
    folder = write({"clips.csv": "what,class,label\na.mp4,sport,run\nb.mp4,sport,walk\n"}, clips=["a.mp4", "b.mp4"])
    path = str(folder / "clips.csv")
    with pytest.raises(ActionClipError, match=r"no column of files .*--file-column"):
        load_dataset(path)
    with pytest.raises(
        ActionClipError, match=r"several columns of labels \('class', 'label'\): name .* --label-column"
    ):
        load_dataset(Source(path, columns=Columns(file="what")))
    dataset = load_dataset(Source(path, columns=Columns("what", "label")))
    assert content(dataset, folder) == [("a.mp4", ["run"], None), ("b.mp4", ["walk"], None)]
    with pytest.raises(ActionClipError, match="no column 'other'"):
        load_dataset(Source(path, columns=Columns("what", "other")))


def test_several_labels(write: Callable[..., Path]) -> None:
    folder = write(
        {
            "cells.csv": "file,labels\na.mp4,run|jump\nb.mp4,run; swim\n",
            "lists.json": '{"a.mp4": ["run", "jump"], "b.mp4": ["swim", "run"]}',
            "rows.csv": "file,label\na.mp4,run\na.mp4,jump\nb.mp4,swim\nb.mp4,run\n",
        },
        clips=["a.mp4", "b.mp4"],
    )
    expected = [("a.mp4", ["jump", "run"], None), ("b.mp4", ["run", "swim"], None)]
    for name, multi_label in (("cells.csv", False), ("lists.json", False), ("rows.csv", True)):
        dataset = load_dataset(Source(str(folder / name), multi_label=multi_label))
        assert content(dataset, folder) == expected
        assert dataset.is_multi_label
        assert dataset.counts == (1, 2, 1)
    with pytest.raises(ActionClipError, match=r"has the labels 'run' \(line 2 .*'jump' \(line 3 .*--multi-label"):
        load_dataset(str(folder / "rows.csv"))


def test_kinetics(write: Callable[..., Path]) -> None:
    """Clips that were cut out are named after video and times, in any folder; whole videos have the part's times."""
    text = (
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        "arm wrestling,-0vZnZqLUhE,7,17,val,0\n"
        "testifying,---QUuC4vJs,84,94,val,0\n"
        '"washing, drying",-2VXhGGeOWg,5.0,15.0,validate,0\n'
        "archery,-gone_gone-,3,13,val,0\n"
    )
    clips = ["k/arm wrestling/-0vZnZqLUhE_000007_000017.mkv", "k/---QUuC4vJs_000084_000094.mp4", "k/-2VXhGGeOWg.webm"]
    folder = write({"val.csv": text}, clips=clips)
    dataset = load_dataset(Source(str(folder / "val.csv"), clips=str(folder / "k")))
    assert dataset.classes == ("archery", "arm wrestling", "testifying", "washing, drying")
    assert dataset.examples[:3] == (
        Example(str(folder / clips[0]), (1,), "-0vZnZqLUhE", "val"),
        Example(str(folder / clips[1]), (2,), "---QUuC4vJs", "val"),
        Example(str(folder / clips[2]), (3,), "-2VXhGGeOWg", "val", 5.0, 15.0),
    )
    assert dataset.missing == (
        f"line 5 of {folder / 'val.csv'} names -gone_gone-_000003_000013, which is not in {folder / 'k'}",
    )
    assert dataset.counts == (1, 1, 1, 1)


def test_kinetics_json(write: Callable[..., Path]) -> None:
    entry = {"annotations": {"label": "archery", "segment": [3.0, 13.0]}, "duration": 10.0, "subset": "train"}
    folder = write({"train.json": json.dumps({"abcdefghijk": entry})}, clips=["abcdefghijk_000003_000013.mp4"])
    dataset = load_dataset(str(folder / "train.json"))
    assert content(dataset, folder) == [("abcdefghijk_000003_000013.mp4", ["archery"], "train")]


CLASSES = {"lines": "archery\nbowling\n", "ids": "id,name\n0,archery\n1,bowling\n"}


@pytest.mark.parametrize("classes", CLASSES.values(), ids=list(CLASSES))
def test_a_list_with_a_class_file(write: Callable[..., Path], classes: str) -> None:
    text = "a b.mp4 1\nsub/c.mp4 0\n"
    folder = write({"list.txt": text, "classes.txt": classes}, clips=["a b.mp4", "sub/c.mp4"])
    dataset = load_dataset(Source(str(folder / "list.txt"), classes=str(folder / "classes.txt")))
    assert content(dataset, folder) == [("a b.mp4", ["bowling"], None), ("sub/c.mp4", ["archery"], None)]
    assert dataset.classes == ("archery", "bowling")


def test_lists_of_mmaction2(write: Callable[..., Path]) -> None:
    folder = write(
        {
            "frames.txt": "some/clip1 163 1\nsome/clip2 122 0\n",
            "several.txt": "a.mp4 0 1\nb.mp4 1\n",
            "names": "x\ny\n",
        },
        clips=["a.mp4", "b.mp4", "videos/clip1.mp4", "videos/clip2.mp4"],
    )
    classes = str(folder / "names")
    dataset = load_dataset(Source(str(folder / "frames.txt"), classes=classes))
    assert content(dataset, folder) == [("videos/clip1.mp4", ["y"], None), ("videos/clip2.mp4", ["x"], None)]
    several = Source(str(folder / "several.txt"), classes=classes, multi_label=True)
    assert content(load_dataset(several), folder) == [("a.mp4", ["x", "y"], None), ("b.mp4", ["y"], None)]
    with pytest.raises(ActionClipError, match=r"line 1 .* has several numbers: .*--multi-label"):
        load_dataset(Source(str(folder / "several.txt"), classes=classes))


UCF101 = {
    "splits/classInd.txt": "1 ApplyEyeMakeup\n2 Archery\n",
    "splits/trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\nArchery/v_Archery_g09_c01.avi 2\n",
    "splits/testlist01.txt": "".join(f"ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c0{clip}.avi\n" for clip in (1, 2)),
    "splits/trainlist02.txt": "Archery/v_Archery_g09_c01.avi 2\n",
    "splits/testlist02.txt": "Archery/v_Archery_g01_c01.avi\n",
}
UCF101_CLIPS = [
    "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
    "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.mp4",
    "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
    "UCF-101/Archery/v_Archery_g09_c01.avi",
]


def test_ucf101(write: Callable[..., Path]) -> None:
    folder = write(UCF101, clips=UCF101_CLIPS)
    splits, clips = str(folder / "splits"), str(folder / "UCF-101")
    with pytest.raises(ActionClipError, match="has the splits 1, 2: choose one with --fold"):
        load_dataset(Source(splits, clips=clips))
    with pytest.raises(ActionClipError, match=r"has no split 3 \(1, 2\)"):
        load_dataset(Source(splits, clips=clips, fold=3))
    dataset = load_dataset(Source(splits, clips=clips, fold=1))
    assert dataset.classes == ("Apply Eye Makeup", "Archery")
    assert content(dataset, folder) == [
        (UCF101_CLIPS[0], ["Apply Eye Makeup"], "test"),
        (UCF101_CLIPS[1], ["Apply Eye Makeup"], "test"),
        (UCF101_CLIPS[2], ["Apply Eye Makeup"], "train"),
        (UCF101_CLIPS[3], ["Archery"], "train"),
    ]
    assert [example.group for example in dataset.examples] == [
        *["ApplyEyeMakeup g01"] * 2,
        "ApplyEyeMakeup g08",
        "Archery g09",
    ]
    alone = load_dataset(Source(str(folder / "splits" / "testlist01.txt"), clips=str(folder)))
    assert content(alone, folder) == content(dataset.part("test"), folder)
    # Only lists for training have ids: without the class file, the folders say which class it is.
    (folder / "splits" / "classInd.txt").unlink()
    assert load_dataset(Source(splits, clips=clips, fold=1)) == replace(dataset, name="splits")


def test_hmdb51(write: Callable[..., Path]) -> None:
    brush = "April_09_brush_hair_u_nm_np1_ba_goo_{}.avi"
    wave = "prelinger_LetsPlay1954_wave_u_nm_np1_fr_med_{}.avi"
    folder = write(
        {
            "splits/brush_hair_test_split1.txt": "".join(f"{brush.format(n)} {n} \n" for n in range(3)),
            "splits/wave_test_split1.txt": f"{wave.format(9)} 1 \n",
            "splits/wave_test_split2.txt": f"{wave.format(9)} 2 \n",
        },
        clips=[*(f"hmdb51/brush_hair/{brush.format(n)}" for n in range(3)), f"hmdb51/wave/{wave.format(9)}"],
    )
    source = Source(str(folder / "splits"), clips=str(folder / "hmdb51"), fold=1)
    dataset = load_dataset(source)
    expected = [
        (f"hmdb51/brush_hair/{brush.format(1)}", ["brush hair"], "train"),
        (f"hmdb51/brush_hair/{brush.format(2)}", ["brush hair"], "test"),
        (f"hmdb51/wave/{wave.format(9)}", ["wave"], "train"),
    ]
    assert content(dataset, folder) == expected
    assert [example.group for example in dataset.examples] == [
        *["April_09_brush_hair"] * 2,
        "prelinger_LetsPlay1954_wave",
    ]
    one = Source(str(folder / "splits" / "wave_test_split1.txt"), clips=str(folder / "hmdb51"))
    assert content(load_dataset(one), folder) == expected


BAD = {
    "no such place": ({}, [], "nowhere", "there are no data at .*nowhere"),
    "an empty folder": ({"d/x.txt": ""}, [], "d", "there are no clips in .*: put them into a folder for each class"),
    "folders without videos": ({"d/a/x.txt": ""}, [], "d", "there are no clips in"),
    "two tables": ({"d/a.csv": "", "d/b.json": ""}, [], "d", r"several tables \('a.csv', 'b.json'\)"),
    "an empty table": ({"t.csv": ""}, [], "t.csv", "names no clips"),
    "a header alone": ({"t.csv": "file,label\n"}, [], "t.csv", "names no clips"),
    "a wrong header": (
        {"t.csv": "foo,bar\na.mp4,run\n"},
        [],
        "t.csv",
        "of files .*'foo', 'bar'.*--file-column",
    ),
    "no labels": ({"t.csv": "file,length\na.mp4,3\n"}, [], "t.csv", "no column of labels .*--label-column"),
    "Kinetics' test list": ({"t.csv": "youtube_id,time_start,time_end,split\nx,1,2,test\n"}, [], "t.csv", "of labels"),
    "a short row": ({"t.csv": "file,label\na.mp4\n"}, [], "t.csv", "line 2 of .* has 1 columns, and the first line 2"),
    "a quotation mark": (
        {"t.csv": 'file,label\na.mp4,"run\n'},
        [],
        "t.csv",
        "line 2 .* no row .* quotation marks",
    ),
    "a blank label": ({"t.csv": "file,label\na.mp4,\n"}, [], "t.csv", "line 2 of .* has no label"),
    "a blank file": ({"t.csv": "file,label\n,run\n"}, [], "t.csv", "line 2 of .* has no file"),
    "three columns and no header": ({"t.csv": "a.mp4,run,3\n"}, [], "t.csv", "no heads of columns, and 3 columns"),
    "an unknown split": ({"t.csv": "file,label,split\na.mp4,run,seven\n"}, [], "t.csv", "'seven' for a split"),
    "a time that is none": ({"t.csv": "file,label,start\na.mp4,run,soon\n"}, [], "t.csv", "'soon' for a time"),
    "an end before the start": (
        {"t.csv": "file,label,start,end\na.mp4,run,3,2\n"},
        [],
        "t.csv",
        "ends at 2 s and begins",
    ),
    "a label that is an object": ({"t.json": '[{"file": "a.mp4", "label": {"x": 1}}]'}, [], "t.json", "is no text"),
    "a label that is true": ({"t.json": '[{"file": "a.mp4", "label": ["x", true]}]'}, [], "t.json", "is no text"),
    "a label that is null": ({"t.json": '[{"file": "a.mp4", "label": null}]'}, [], "t.json", "has no label"),
    "a file that comes twice in JSON": (
        {"t.json": '{"a.mp4": "run", "b.mp4": "walk", "a.mp4": "walk"}'},
        ["a.mp4", "b.mp4"],
        "t.json",
        "has 'a.mp4' twice in one object: leave one",
    ),
    "broken JSON": ({"t.json": '[{"file": '}, [], "t.json", "is not valid JSON"),
    "JSON of something else": ({"t.json": "[1, 2]"}, [], "t.json", "must be a JSON list of objects"),
    "labels that differ in case": (
        {"t.csv": "file,label\na.mp4,Arm_Wrestling\nb.mp4,arm wrestling\n"},
        ["a.mp4", "b.mp4"],
        "t.csv",
        "'Arm_Wrestling' and 'arm wrestling' in .* are one label",
    ),
    "numbers for labels": (
        {"t.csv": "file,label\na.mp4,3\n"},
        ["a.mp4"],
        "t.csv",
        "are numbers, such as 3: .*--classes",
    ),
    "a list without classes": ({"l.txt": "a.mp4 3\n"}, ["a.mp4"], "l.txt", "are numbers, such as 3: .*--classes"),
    "a list of names alone": ({"l.txt": "a.mp4\nb.mp4\n"}, ["a.mp4"], "l.txt", "line 1 .* neither a path and the id"),
    "an id that is not there": (
        {"l.txt": "a.mp4 3\n", "classInd.txt": "1 run\n2 walk\n"},
        ["a.mp4"],
        "l.txt",
        "line 1 of .* has the class 3, and .* has 1 to 2: give the class file",
    ),
    "no clip is there": (
        {"t.csv": "file,label\na.mp4,run\nb.mp4,walk\n"},
        [],
        "t.csv",
        "line 2 of .* names a.mp4, which is not in .* all 2 clips: .*--clips",
    ),
    "one clip in two splits": (
        {"t.csv": "file,label,split\na.mp4,run,train\na.mp4,run,val\n"},
        ["a.mp4"],
        "t.csv",
        r"a\.mp4 is in train \(line 2 .*\) and in val \(line 3 .*\): take one",
    ),
    "not a split of HMDB51": (
        {"d/wave_test_split1.txt": "a.avi 7\n"},
        ["d/wave/a.avi"],
        "d",
        "line 1 .* does not end with 0, 1 or 2",
    ),
}


@pytest.mark.parametrize(("texts", "clips", "source", "message"), BAD.values(), ids=list(BAD))
def test_what_is_no_data(
    write: Callable[..., Path], texts: dict[str, str], clips: list[str], source: str, message: str
) -> None:
    folder = write(texts, clips=clips)
    with pytest.raises(ActionClipError, match=message) as error:
        load_dataset(str(folder / source))
    assert "\n" not in str(error.value)


def test_a_label_that_is_in_no_class_file(write: Callable[..., Path]) -> None:
    folder = write({"t.csv": "file,label\na.mp4,ran\n", "c.txt": "run\nwalk\n"}, clips=["a.mp4"])
    with pytest.raises(ActionClipError, match=r"line 2 .* the label 'ran', which is not in the class file .*c\.txt"):
        load_dataset(Source(str(folder / "t.csv"), classes=str(folder / "c.txt")))


def test_one_file_in_the_folders_of_two_classes(write: Callable[..., Path]) -> None:
    folder = write(clips=["run/a.mp4", "walk/b.mp4"])
    (folder / "walk" / "a.mp4").symlink_to(folder / "run" / "a.mp4")
    with pytest.raises(ActionClipError, match=r"has the labels 'run' .* and 'walk'"):
        load_dataset(str(folder))


def test_names_that_two_files_have_are_told_apart_by_their_folders(write: Callable[..., Path]) -> None:
    folder = write({"t.csv": "file,label\nrun/a.mp4,run\na.mp4,walk\n"}, clips=["x/run/a.mp4", "x/walk/a.mp4"])
    dataset = load_dataset(str(folder / "t.csv"))
    assert dataset.examples[0].video == str(folder / "x" / "run" / "a.mp4")
    (problem,) = dataset.missing
    assert problem.endswith(f"{folder / 'x/run/a.mp4'} and {folder / 'x/walk/a.mp4'} are called so")


def test_a_file_that_is_missing_in_its_folder_is_not_another_one_of_that_name(write: Callable[..., Path]) -> None:
    folder = write({"t.csv": "file,label\nrun/1.mp4,run\nwalk/1.mp4,walk\n"}, clips=["x/run/2.mp4", "x/walk/1.mp4"])
    dataset = load_dataset(str(folder / "t.csv"))
    assert dataset.missing == (f"line 2 of {folder / 't.csv'} names run/1.mp4, which is not in {folder}",)
    assert dataset.examples[1].video == str(folder / "x" / "walk" / "1.mp4")


def test_letters_of_all_languages_tell_labels_apart(write: Callable[..., Path]) -> None:
    """Marks of vowels are no punctuation."""
    folder = write({"t.csv": "file,label\na.mp4,की\nb.mp4,का\nc.mp4,läuft\n"}, clips=["a.mp4", "b.mp4", "c.mp4"])
    assert set(load_dataset(str(folder / "t.csv")).classes) == {"की", "का", "läuft"}


def test_rows_that_come_twice_count_once(write: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    folder = write({"t.csv": "file,label\na.mp4,run\n./a.mp4,run\n"}, clips=["a.mp4"])
    with caplog.at_level(logging.WARNING, "action_clip"):
        assert len(load_dataset(str(folder / "t.csv"))) == 1
    assert "rows that name a clip which others name too: 1; each clip counts once" in caplog.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source("d", fold=1), "--fold is about the split files of UCF101 or HMDB51, and .*d has none"),
        (Source("d/t.csv", fold=1), "--fold is about the split files"),
        (
            Source("d", clips="d"),
            "--clips and names of columns are about tables and lists, and .*d is a folder of clips",
        ),
        (Source("d", columns=Columns("file")), "--clips and names of columns are about tables"),
        (Source("d/run/a.mp4"), "a.mp4 is a video: put it into a folder for each class"),
    ],
)
def test_what_the_data_have_no_use_for(write: Callable[..., Path], source: Source, message: str) -> None:
    folder = write({"d/t.csv": "file,label\na.mp4,run\n"}, clips=["d/run/a.mp4", "d/walk/b.mp4"])
    clips = None if source.clips is None else str(folder / source.clips)
    with pytest.raises(ActionClipError, match=message):
        load_dataset(replace(source, path=str(folder / source.path), clips=clips))
