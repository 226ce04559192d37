"""Cases by what they run: the banks that are removed before it, the contestants, the folders of videos."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from action_clip.models.cache.video_bank import video_fingerprint
from action_clip.models.store.home import LABEL_BANK, VIDEO_BANK
from action_clip.video.preprocess import clip_tensor
from benchmarks import cases, film, folders, many
from benchmarks.contestants import DECODING, GRAPHS, PREPROCESSING, Contestant
from benchmarks.inputs import FEW_TINY, FRAMES, Inputs, write_clip
from benchmarks.many import looping
from benchmarks.measure import Command, Raw, Sample, processes
from benchmarks.program import classify, forgetting
from benchmarks.script import Clips
from benchmarks.video import exact_frames
from benchmarks.work import UNIFORM

pytestmark = pytest.mark.slow

NOTHING: set[str] = set()
FORGOTTEN = {
    cases.EMPTY: {LABEL_BANK, VIDEO_BANK},
    cases.KNOWN: {VIDEO_BANK},
    cases.VIDEO_KNOWN: NOTHING,
    cases.EMPTY_INT8: {LABEL_BANK, VIDEO_BANK},
    cases.KNOWN_INT8: {VIDEO_BANK},
    many.PROGRAM: {VIDEO_BANK},
    many.PROGRAM_INT8: {VIDEO_BANK},
    many.LOOP: {VIDEO_BANK},
    many.FIRST: {LABEL_BANK, VIDEO_BANK},
    many.AGAIN: NOTHING,
    many.NEW_LABELS: {LABEL_BANK},
    many.FEW: {VIDEO_BANK},
    many.ALL: {VIDEO_BANK},
    film.FILM.format("10 min"): {VIDEO_BANK},
    film.FILM.format("2 h"): {VIDEO_BANK},
    film.SHORT: {VIDEO_BANK},
}

Ran = tuple[dict[str, Raw], list[tuple[str, Command]]]


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """The raw numbers of all cases, each a 1, and the commands; not of the case "bank", which reads what they write."""
    commands: list[tuple[str, Command]] = []

    def run(given: Mapping[str, Command], rounds: int) -> Raw:
        commands.extend(given.items())
        one = Sample(1, 1, {"image": 1, "fusion": 1})
        return Raw(samples={name: [one] for name in given}, answers=dict.fromkeys(given, "Δp ≤ 0"))

    def work(stage: str, contestants: Sequence[Contestant], folder: Path, rounds: int) -> Raw:
        return Raw(samples={contestant.name: [Sample(1)] for contestant in contestants})

    def make(inputs: Inputs, kind: str, count: int) -> None:
        for number in range(2):
            inputs.clips.mkdir(exist_ok=True)
            (inputs.clips / f"{number}.mp4").touch()

    monkeypatch.setattr(cases, "processes", run)
    monkeypatch.setattr(cases, "workers", work)
    for module in (many, film):
        monkeypatch.setattr(module, "processes", run)
        monkeypatch.setattr(module, "make_folder", make)
    monkeypatch.setattr(film, "which", lambda _: "ffmpeg")
    raws = {key: case.measure(Inputs(tmp_path), 1) for key, case in cases.CASES.items() if key != "bank"}
    return raws, commands


def test_targets_and_baselines_are_of_contestants_that_run(ran: Ran) -> None:
    for key, raw in ran[0].items():
        case = cases.CASES[key]
        for target in case.targets:
            assert target.figure(raw) is not None, f"{key}: {target.text}"
        assert case.baseline in ("", *raw.samples)


def test_what_is_said_to_be_new_is_forgotten_and_nothing_else(ran: Ran) -> None:
    known = [(name, command) for name, command in ran[1] if name in FORGOTTEN]
    for name, command in known:
        assert set(command.forget) == {command.home / bank for bank in FORGOTTEN[name]}, name
    assert {name for name, _ in known} == set(FORGOTTEN)


@pytest.mark.skipif(os.name == "nt", reason="the benchmarks need a shell and os.wait4")
def test_a_loop_answers_for_each_video_as_one_process_does(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.labels_10.write_text("eating\ndrinking\nreading\n", encoding="utf-8")
    inputs.clips.mkdir()
    for number in range(2):
        write_clip(inputs.clips / f"{number}.mp4", number, width=64, height=48, frames=9)
    program = forgetting(classify(inputs, Path("nano"), inputs.labels_10, inputs.clips), VIDEO_BANK)
    raw = processes({"program": program, "loop": looping(program)}, 1)  # raises RuntimeError for another answer
    assert set(raw.answers) == {"program", "loop"}
    assert all(run.stages == {} for runs in raw.samples.values() for run in runs)  # there are two answers


def test_parts_of_the_limit() -> None:
    whole, decoding, preprocessing, graphs = [50.0, 100.0], [0.3, 0.6], [0.1, 0.2], [0.4, 0.8]
    seconds = {many.PROGRAM: whole, DECODING: decoding, PREPROCESSING: preprocessing, GRAPHS: graphs}
    samples = {name: [Sample(value) for value in values] for name, values in seconds.items()}
    raw = Raw(samples, notes={"clips": 100, "cores": 2})
    # 2 clips a second of 2.5; in the second round the machine is half as fast
    assert many.against_limit(many.PROGRAM, GRAPHS)(raw) == pytest.approx(0.8)
    assert many.against_limit(many.PROGRAM_INT8, GRAPHS)(raw) is None


def test_clips_are_different_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "write_clip", partial(write_clip, width=64, height=48, frames=9))
    inputs = Inputs(tmp_path)
    folders.make_clips(inputs, 2)
    kept = inputs.clips / "000.mp4"
    before = kept.stat()
    folders.make_clips(inputs, 3)
    assert kept.stat() == before
    paths = sorted(inputs.clips.iterdir())
    assert [path.name for path in paths] == ["000.mp4", "001.mp4", "002.mp4"]
    pixels = [exact_frames(path, UNIFORM, 1) for path in paths]
    assert all(frames.shape == (FRAMES, 48, 64, 3) for frames in pixels)
    assert not np.array_equal(pixels[0], pixels[1])
    with av.open(str(kept)) as video:
        assert video.streams.video[0].codec_context.name == "h264"


def test_tiny_clips_are_other_videos_to_the_program(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    folders.make_tiny(inputs, FEW_TINY + 3)
    paths = sorted(inputs.tiny.rglob("*.mp4"))
    assert len(paths) == len({video_fingerprint(path) for path in paths}) == FEW_TINY + 3
    assert len(list((inputs.tiny / "few").iterdir())) == FEW_TINY
    assert len({int(path.stat().st_mtime) for path in paths}) == len(paths)  # not every file system has fractions


def test_the_script_gives_its_model_the_tensors_of_the_program(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, width=320, height=240, frames=20)
    facts = {"resize": "256", "image_size": "224", "mean": "[0.5, 0.4, 0.3]", "std": "[0.3, 0.2, 0.1]"}
    clips = Clips([path], exact_frames, facts)
    name, tensor = clips[0]
    expected = clip_tensor(exact_frames(path, UNIFORM, 1), 224, (0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    assert (len(clips), name) == (1, str(path))
    np.testing.assert_allclose(tensor, expected, atol=1e-5)
