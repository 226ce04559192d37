"""`action-clip train --fine-tune`: what a training leaves, how it goes on, and what is said where it cannot."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import run
from moving_shapes import MOTIONS, write_clips
from short_trainings import TWO, arguments, log_of, step_losses, weights_in, write_data

from action_clip.errors import ActionClipError
from action_clip.training.finetune.run_folder import RunFolder

ROOT = Path(__file__).parents[3]
PATIENCE_S = 900.0
ENDLESS = ("--lr", "1e6", "--weight-decay", "3e32")
"""So large that the weights are infinite after a step at these rates."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence that says why."""
    code, out, err = run(capsys, *words)
    assert (code, out) == (1, "")
    (sentence,) = [line for line in err.splitlines() if line.startswith("action_clip: error: ")]
    return sentence.removeprefix("action_clip: error: ")


@pytest.mark.slow
def test_a_training_leaves_whole_checkpoints_a_log_and_the_classes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    out = tmp_path / "run"
    code, printed, err = run(capsys, *arguments(data, out, "--epochs", "2"))
    assert code == 0, err
    names = {path.name.partition(".tfevents")[0] for path in out.iterdir()}
    assert names == {"last.pt", "best.pt", "log.jsonl", "labels.txt", "events.out"}
    assert (out / "labels.txt").read_text("utf-8").splitlines() == sorted(motion.label for motion in TWO)

    log = log_of(out)
    assert [epoch["epoch"] for epoch in log] == [1, 2]
    losses = step_losses(out)
    assert len(losses) == 6  # twelve clips in steps of four, twice
    for epoch, of_epoch in zip(log, (losses[:3], losses[3:]), strict=True):
        assert epoch["loss"] == pytest.approx(sum(of_epoch) / 3, abs=1e-6)
        assert epoch["top1"] in (pytest.approx(k / 6) for k in range(7))
    assert f"epoch 2/2: loss {log[1]['loss']:.4f}, top-1 {log[1]['top1']:.1%}" in err

    content = torch.load(out / "last.pt", weights_only=True)
    assert set(content) >= {"epoch", "model_state_dict", "fusion_model_state_dict", "optimizer_state_dict"}
    assert content["epoch"] == 2
    best = max(log, key=lambda epoch: epoch["top1"])
    assert torch.load(out / "best.pt", weights_only=True)["epoch"] == best["epoch"]
    assert f"best: epoch {best['epoch']}/2" in printed
    assert f"action-clip export {out / 'best.pt'} --out FOLDER" in printed


def test_the_same_seed_gives_the_same_losses_and_another_one_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    losses = []
    for name, seed in (("one", "5"), ("two", "5"), ("three", "6")):
        assert run(capsys, *arguments(data, tmp_path / name, "--epochs", "1", "--seed", seed))[0] == 0
        losses.append(step_losses(tmp_path / name))
    assert losses[0] == losses[1] != losses[2]


def started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "action_clip.py", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(text: str, process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"never said {text!r}")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals of this kind")
def test_a_killed_training_goes_on_to_the_same_losses_and_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    more = ("--epochs", "4", "--strategy", "freeze_unfreeze", "--unfreeze-at", "3")
    assert run(capsys, *arguments(data, tmp_path / "whole", *more))[0] == 0
    killed = tmp_path / "killed"
    with started(*arguments(data, killed, *more)) as process:
        wait_for("epoch 2/4", process)
        process.kill()
    (killed / ".0123456789abcdef0123456789abcdef.tmp").write_bytes(b"half a checkpoint")
    done = len(log_of(killed))
    assert 2 <= done < 4
    code, _, err = run(capsys, *arguments(data, killed, *more, "--resume"))
    assert code == 0, err
    assert f"epoch {done}/4" not in err
    assert f"epoch {done + 1}/4" in err
    assert log_of(killed) == log_of(tmp_path / "whole")
    assert step_losses(killed) == step_losses(tmp_path / "whole")
    found, expected = (weights_in(folder / "last.pt") for folder in (killed, tmp_path / "whole"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not [*killed.glob(".*")]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
def test_ctrl_c_in_the_middle(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "run"
    with started(*arguments(data, out, "--epochs", "100000")) as process:
        wait_for("epoch 1/", process)
        process.send_signal(signal.SIGINT)
        printed, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, printed) == (130, "")
    assert err.splitlines()[-1] == f"action_clip: stopped: {out / 'last.pt'} is whole, --resume goes on after it"
    assert "Traceback" not in err
    assert torch.load(out / "last.pt", weights_only=True)["epoch"] >= 1
    assert not [*out.glob(".*")]


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--devices", "2"), ("--workers", "2")], ids=["devices", "workers"])
def test_several_processes_come_to_the_same_losses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, more: tuple[str, ...]
) -> None:
    # With layers that are trained from an epoch on, which devices must begin to exchange.
    common = (
        "--epochs", "3", "--device", "cpu", "--strategy", "unfreeze_milestones", "--unfreeze-at", "1", "2",
        "--unfreeze-layers", "1",
    )  # fmt: skip
    assert run(capsys, *arguments(data, tmp_path / "one", *common))[0] == 0
    with started(*arguments(data, tmp_path / "several", *common, *more)) as process:
        printed, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert printed.count("best: ") == err.count("epoch 3/3") == 1
    one, several = step_losses(tmp_path / "one"), step_losses(tmp_path / "several")
    assert several == pytest.approx(one, abs=2e-5)
    assert [epoch["top1"] for epoch in log_of(tmp_path / "several")] == pytest.approx(
        [epoch["top1"] for epoch in log_of(tmp_path / "one")]
    )


def test_it_stops_early(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    out = tmp_path / "run"
    rates = ("--lr", "1e-12", "--fusion-lr", "1e-12")
    code, printed, err = run(capsys, *arguments(data, out, "--epochs", "9", "--patience", "2", *rates))
    assert code == 0, err
    assert [epoch["epoch"] for epoch in log_of(out)] == [1, 2, 3]
    assert "best: epoch 1/9" in printed


def test_weights_that_are_no_longer_numbers_are_not_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    out = tmp_path / "run"
    more = ("--epochs", "3", "--warm-up", "1", *ENDLESS)
    # The rate of the only step of the first epoch is 0.
    assert refused(capsys, *arguments(data, out, *more, batch_size=12)) == (
        "a weight is no longer a finite number (the last step of epoch 2): train with a lower --lr, or with "
        "--precision 32"
    )
    assert [epoch["epoch"] for epoch in log_of(out)] == [1]
    assert all(torch.isfinite(weight).all() for weight in weights_in(out / "last.pt").values())


def test_a_loss_that_is_no_longer_a_number_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    more = ("--epochs", "1", "--warm-up", "0", *ENDLESS)
    assert refused(capsys, *arguments(data, tmp_path / "run", *more)) == (
        "the loss is no longer a finite number (epoch 1, step 2): train with a lower --lr, or with --precision 32"
    )
    assert not [*(tmp_path / "run").glob("*.pt")]


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    folder = RunFolder(tmp_path)
    folder.save(folder.last, {"epoch": 1, "weights": torch.ones(10)})
    before = folder.last.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ActionClipError) as caught:
            folder.save(folder.last, {"epoch": 2, "weights": torch.ones(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == (
        f"cannot write {folder.last} (File too large); {folder.last} is whole: make room, and go on with --resume"
    )
    assert folder.last.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_before_the_first_epoch_was_over(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    folder = RunFolder(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ActionClipError, match=r"best.pt \(File too large\): make room, and begin again$"):
            folder.save(folder.best, {"epoch": 1, "weights": torch.ones(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [*tmp_path.iterdir()]


def test_what_a_training_left_before_its_first_epoch_was_over_is_no_obstacle(tmp_path: Path) -> None:
    names = ("best.pt", "events.out.tfevents.1.host", ".0123456789abcdef0123456789abcdef.tmp")
    for name in names:
        (tmp_path / name).touch()
    folder = RunFolder(tmp_path)
    folder.check(resume=False)
    folder.make(resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_files_of_others_are_not_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    for name in ("labels.txt", "text.onnx", "notes.md"):
        out = tmp_path / name.partition(".")[0]
        out.mkdir()
        (out / name).write_text("mine", "utf-8")
        assert refused(capsys, *arguments(data, out, "--epochs", "1")) == (
            f"{out} has other files, such as {name}: name a new folder, so that none is overwritten"
        )
        assert [(path.name, path.read_text("utf-8")) for path in out.iterdir()] == [(name, "mine")]


def test_a_folder_that_is_there_needs_no_right_to_write_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As root, who runs tests in containers, may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    (tmp_path / "run").mkdir()
    RunFolder(tmp_path / "run").check(resume=False)
    with pytest.raises(ActionClipError, match="cannot be written"):
        RunFolder(tmp_path / "other").check(resume=False)


def test_without_stderr(tmp_path: Path, data: Path) -> None:
    words = arguments(data, tmp_path / "run", "--epochs", "1")
    program = "import sys; sys.stderr = None; from action_clip.command import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("best: epoch 1/1")


def test_a_class_whose_name_is_too_long(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", train=1, val=0)
    (data / "train" / TWO[0].label).rename(data / "train" / ("word " * 45 + "end"))
    assert "shorten it" in refused(capsys, *arguments(data, tmp_path / "run", "--prompts", prompts_of(tmp_path, 40)))
    assert not (tmp_path / "run").exists()


def prompts_of(folder: Path, words: int) -> str:
    """A file with a prompt of so many words."""
    (folder / "prompts.txt").write_text("word " * words + "{}\n", "utf-8")
    return str(folder / "prompts.txt")


def test_clips_that_cannot_be_read_are_named_counted_and_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = write_data(tmp_path / "data")
    broken = [data / split / motion.label / "0.avi" for split in ("train", "val") for motion in TWO]
    for path in broken:
        path.write_bytes(b"no video")
    code, _, err = run(capsys, *arguments(data, tmp_path / "run", "--epochs", "2"))
    assert code == 0, err
    for path in broken:
        assert err.count(str(path)) == 1
    assert "4 of 18 clips cannot be read" in err
    # Of six clips for validation two are wrong in any case.
    assert all(epoch["top1"] <= 4 / 6 + 1e-6 for epoch in log_of(tmp_path / "run"))


def test_no_clip_can_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", train=2, val=0)
    for path in data.rglob("*.avi"):
        path.write_bytes(b"no video")
    sentence = refused(capsys, *arguments(data, tmp_path / "run"))
    assert sentence.startswith("none of the 4 clips for training can be read; the first: ")
    assert "0.avi" in sentence or "1.avi" in sentence


def test_one_class(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_clips(tmp_path / "data", MOTIONS[:1], 3, seed=0)
    assert refused(capsys, *arguments(tmp_path / "data", tmp_path / "run")) == (
        "the clips for training have one class, 'a red square moves left': give clips of two classes or more"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--patience", "1"], "--patience needs clips for validation: give --val-split, such as 0.2"),
        (["--strategy", "freeze", "--unfreeze-at", "1"], "--strategy freeze takes no epoch with --unfreeze-at, not 1"),
        (["--strategy", "freeze_unfreeze"], "--strategy freeze_unfreeze takes one epoch with --unfreeze-at, not 0"),
        (
            ["--strategy", "unfreeze_milestones", "--unfreeze-at", "2", "1", "--unfreeze-layers", "1"],
            "--unfreeze-at takes epochs in ascending order, below the 50 of --epochs",
        ),
        (
            ["--strategy", "unfreeze_milestones", "--unfreeze-at", "1", "2"],
            "--unfreeze-layers and --strategy unfreeze_milestones need each other: give both or none",
        ),
        (
            ["--strategy", "freeze", "--fusion", "meanP"],
            "--strategy freeze trains the fusion alone, and meanP has no weights: choose another",
        ),
        (["--device", "cpu", "--precision", "16"], "--precision 16 is for GPUs: give bf16 or 32"),
        (
            ["--device", "cpu", "--devices", "3"],
            "3 devices cannot share batches of 4 clips: give a multiple of 3 with --batch-size",
        ),
        (["--resume"], "{out} has no training to go on with (no last.pt): leave out --resume, or name its folder"),
        (
            ["--frames", "78"],
            "the fusion Transf has positions for 77 frames: give --frames 77 or fewer, or another --fusion",
        ),
        (["--checkpoint", "no.pt"], "there is no checkpoint no.pt: give a file, a folder or a name of the catalog"),
        (["--checkpoint", "nano"], "nano has no checkpoint to train: name a model that is exported, or a file"),
    ],
)
def test_what_does_not_fit_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, more: list[str], sentence: str
) -> None:
    data, out = write_data(tmp_path / "data", train=2, val=0), tmp_path / "run"
    assert refused(capsys, *arguments(data, out, *more)) == sentence.format(out=out)
    assert not out.exists()


@pytest.mark.parametrize(("option", "value"), [("--frames", "1025"), ("--seed", str(2**32))])
def test_numbers_that_are_too_large(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, option: str, value: str
) -> None:
    code, _, err = run(capsys, *arguments(data, tmp_path / "run", option, value))
    assert code == 2
    assert f"argument {option}: {value} is above {int(value) - 1}" in err


def test_nothing_to_begin_with(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    words = arguments(data, tmp_path / "run")[:-2]
    assert refused(capsys, *words) == "there is nothing to begin with: give --checkpoint FILE, or --scratch SIZE"


def test_a_training_is_not_overwritten_and_goes_on_only_as_it_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    out = tmp_path / "run"
    assert run(capsys, *arguments(data, out, "--epochs", "1"))[0] == 0
    before = (out / "last.pt").read_bytes()
    assert refused(capsys, *arguments(data, out, "--epochs", "1")) == (
        f"{out} has a training already: give --resume to go on with it, or name another folder"
    )

    def other(*more: str) -> str:
        return refused(capsys, *arguments(data, out, *more, "--resume"))

    same = "--resume goes on with the same options, and"
    assert other("--epochs", "2") == f"{same} --epochs was 1, not 2: give it so"
    assert other("--epochs", "1", "--lr", "1e-3") == f"{same} --lr was 0.0005, not 0.001: give it so"
    assert other("--epochs", "1", "--frames", "4") == f"{same} --frames was None, not 4: give it so"
    assert other("--epochs", "1", "--flip", "always") == f"{same} --flip was False, not True: give it so"
    words = arguments(write_data(tmp_path / "others", train=5), out, "--epochs", "1", "--resume")
    assert refused(capsys, *words) == (
        "--resume goes on with the same clips, and these are others: give those, or train anew"
    )
    assert (out / "last.pt").read_bytes() == before
    # What is over is said again, and not trained again.
    code, printed, err = run(capsys, *arguments(data, out, "--epochs", "1", "--resume"))
    assert (code, err) == (0, "")
    assert "best: epoch 1/1" in printed
    content = torch.load(out / "last.pt", weights_only=True)
    torch.save({**content, "training": {"settings": {}}}, out / "last.pt")
    assert refused(capsys, *arguments(data, out, "--epochs", "1", "--resume")).startswith(
        f"{out / 'last.pt'} is no checkpoint of a fine-tuning"
    )
    (out / "last.pt").write_bytes(before[:1000])
    assert refused(capsys, *arguments(data, out, "--epochs", "1", "--resume")).startswith(
        f"{out / 'last.pt'} is damaged ("
    )


@pytest.mark.parametrize("package", ["lightning_fabric", "tensorboardX", "torch"])
def test_a_missing_package_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path, package: str
) -> None:
    real: Any = importlib.util.find_spec
    assert real(package) is not None
    monkeypatch.setitem(sys.modules, package, None)
    sentence = refused(capsys, *arguments(data, tmp_path / "run"))
    assert package in sentence
    assert sentence.endswith(
        "pip install 'action-clip[finetune]', or in a clone pip install -r requirements-finetune.txt"
    )
