"""Tables and lists of clips, and files of predictions for them."""

from contextlib import suppress
from pathlib import Path

from action_clip.data.loading import Source, load_dataset
from action_clip.data.splits import split_off
from action_clip.errors import ActionClipError
from action_clip.evaluation.prediction_files import read_answers

CLIPS = ("a.mp4", "b.mp4", "v_Archery_g01_c02.avi")
NAMES = ("clips.csv", "trainlist01.txt", "wave_test_split1.txt")


def seeds() -> list[bytes]:
    """Files of each kind."""
    return [
        b"file,label,split,group,start,end\na.mp4,run,train,g,0,1.5\nb.mp4,walk|run,val,,,\n",
        b"a.mp4\trun\nb.mp4\twalk\n",
        b'[{"file": "a.mp4", "labels": ["run", "walk"]}, {"file": "b", "label": 1}]',
        b'{"a.mp4": "run", "b.mp4": ["walk", "run"]}',
        b'{"abcdefghijk": {"annotations": {"label": "run", "segment": [1.0, 2.0]}, "subset": "train"}, "a": "walk"}',
        b"label,youtube_id,time_start,time_end,split\nrun,a,1,2,val\nwalk,abcdefghijk,1,2,test\n",
        b"a.mp4 0\nb.mp4 1\nv_Archery_g01_c02.avi 0\n",
        b"a 163 1\nb 20 0\n",
        b"run/a.mp4\nwalk/b.mp4\n",
        b"a.avi 1\nb.avi 2\n",
        b'{"video": "a.mp4", "predictions": [{"rank": 1, "index": 0, "label": "run", "probability": 0.7}]}\n',
        b'{"video": "a.mp4", "scores": {"run": 1.5, "walk": -2}}\n{"video": "b.mp4", "label": "walk"}\n',
        b"video,rank,index,label,probability\na.mp4,1,0,run,0.5\nb.mp4,,,,\n",
        b"video,run,walk\na.mp4,0.25,0.75\nb.mp4,1,0\n",
    ]


def target(data: bytes) -> None:
    """Load them as each kind of data, and take them for predictions."""
    for name in CLIPS:
        Path(name).touch()
    Path("classes").write_text("0 run\n1 walk\n")
    Path("own.csv").write_text("file,label\na.mp4,run\nb.mp4,walk\n")
    for name in NAMES:
        Path(name).write_bytes(data)
        for multi_label in (False, True):
            with suppress(ActionClipError):
                split_off(load_dataset(Source(name, classes="classes", multi_label=multi_label)), 0.5, 0)
        Path(name).unlink()
    Path("answers").write_bytes(data)
    with suppress(ActionClipError):
        answers = read_answers("answers", load_dataset("own.csv"))
        assert answers.scores.shape == (2, len(answers.choices))
