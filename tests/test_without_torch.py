"""Running needs nothing of what exporting needs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_sample import ACTION

ROOT = Path(__file__).parents[1]
# What requirements-export.txt adds, what that brings along, and what it could be mistaken for.
ABSENT = (
    *("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "tokenizers", "transformers"),
    *("lightning_fabric", "tensorboardX"),
)
# A process in which these packages are not there, as on a machine where they were never installed.
START = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
END = f"""
loaded = {{name.partition(".")[0] for name in sys.modules}} & set({ABSENT})
assert not loaded, loaded
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START + code + END], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )


def test_the_command_runs_without_what_exporting_needs() -> None:
    done = run(
        "import action_clip\n"
        "assert action_clip.main(['--model', 'nano', '--format', 'csv', '--top-k', '1']) == 0\n"
        "assert action_clip.main(['--list-models']) == 0\n"
        "assert action_clip.main(['--verify', '--model', 'nano']) == 0\n"
        "assert action_clip.main(['--model', 'vit-b-16-8f']) == 1\n"
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rf"sample\.gif,1,\d,{ACTION},0\.\d+$", done.stdout, re.MULTILINE)
    assert re.search(r"^nano +8 +\d+ MB +yes ", done.stdout, re.MULTILINE)
    assert done.stdout.count("equal to catalog") == 3
    assert (
        "run action-clip export vit-b-16-8f once (it needs pip install 'action-clip[export]', in a clone '.[export]')"
        in done.stderr
    )


def test_the_import_runs_without_what_exporting_needs() -> None:
    done = run(
        "import numpy as np\n"
        "from action_clip import ActionClip\n"
        "frames = np.full((8, 48, 64, 3), 90, np.uint8)\n"
        "answer = ActionClip('nano', cache=False).classify(frames, ['eating', 'läuft'])\n"
        "print(len(answer.ranked), answer.probabilities.sum())\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 1.0")


@pytest.mark.parametrize("arguments", [["clip.pt", "--out", "x"], ["--check", "models/nano", "--against", "clip.pt"]])
def test_the_exporter_says_what_is_missing(arguments: list[str]) -> None:
    done = run(f"from action_clip.export.command import main\nassert main({arguments}) == 1\n")
    assert done.returncode == 0, done.stderr
    *progress, sentence = done.stderr.splitlines()
    advice = "pip install 'action-clip[export]', or in a clone pip install -r requirements-export.txt"
    assert re.fullmatch(rf"No module named '\w+': {re.escape(advice)}", sentence)
    assert all("loading PyTorch" in line for line in progress)
    assert done.stdout == ""


def test_fine_tuning_says_what_is_missing() -> None:
    done = run(
        "from action_clip import main\n"
        "try:\n"
        "    main(['train', '--fine-tune', '--help'])\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "assert main(['train', '--fine-tune', '--data', 'clips', '--out', 'run', '--scratch', 'tiny']) == 1\n"
    )
    assert done.returncode == 0, done.stderr
    assert "--unfreeze-layers N" in done.stdout
    advice = "pip install 'action-clip[finetune]', or in a clone pip install -r requirements-finetune.txt"
    assert re.fullmatch(
        rf"action_clip: error: fine-tuning needs .* \(No module named '\w+'\): {re.escape(advice)}\n", done.stderr
    )


def test_what_exporting_needs_is_required_for_exporting_only() -> None:
    def packages(file: str) -> set[str]:
        lines = (ROOT / file).read_text("utf-8").splitlines()
        return {re.split(r"[^\w.-]", line)[0] for line in lines if line[:1].isalpha()}

    assert {"torch", "onnx", "onnxscript"} <= packages("requirements-export.txt") <= set(ABSENT)
    assert not packages("requirements.txt") & set(ABSENT)
