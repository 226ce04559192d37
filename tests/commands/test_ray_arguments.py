"""`action-clip ray` where Ray is not installed, and its arguments."""

import subprocess
import sys
from pathlib import Path

import pytest

from action_clip import main

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "pyarrow"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import action_clip
sys.exit(action_clip.main(sys.argv[1:]))
"""


def test_the_extra_is_named_where_ray_is_missing(tmp_path: Path) -> None:
    arguments = ["ray", "samples/", "--out", str(tmp_path / "out"), "--text", "eating"]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "action_clip: error: No module named 'pyarrow': this command needs Ray, pip install 'action-clip[ray]', or in "
        "a clone pip install -r requirements-ray.txt\n"
    )
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("given", ["option", "variable"])
def test_ray_client_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001" if given == "variable" else "auto")
    option = ["--address", "ray://head:10001"] if given == "option" else []
    assert main(["ray", "samples/", "--out", str(tmp_path / "out"), "--text", "eating", *option]) == 1
    assert capsys.readouterr().err == (
        "action_clip: error: Ray Data does not work through Ray Client (ray://head:10001): run this command on a "
        "machine of the cluster with --address auto, or with ray job submit\n"
    )
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a.mp4"], "the following arguments are required: --out"),
        (["--out", "out"], "the following arguments are required: VIDEO"),
        (["a.mp4", "--out", "out", "--gpus", "1.5"], "1.5 is neither from 0 to 1 nor a whole number"),
        (["a.mp4", "--out", "out", "--gpus", "nan"], "nan is neither from 0 to 1 nor a whole number"),
        (["a.mp4", "--out", "out", "--gpus", "one"], "'one' is not a number"),
        (["a.mp4", "--out", "out", "--cpus", "0"], "0 is below 1"),
        (["a.mp4", "--out", "out", "--seed", "1"], "--seed belongs to --sampling random"),
        (["a.mp4", "--out", "out", "--format", "json"], "unrecognized arguments: --format json"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["ray", *arguments])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
