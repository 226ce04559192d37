"""Files are written whole or not at all, never over what is read, and texts are read whole or refused."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_models import CLASSES, random_closed_model, random_model, save_closed_model, save_model

from action_clip import main
from action_clip.errors import ActionClipError
from action_clip.models.classmap import read_classmap
from action_clip.models.store.home import LABEL_BANK, VIDEO_BANK
from action_clip.system import files
from action_clip.system.files import LineFile, check_apart, draft, draft_folder, read_text, remove_drafts, write_file
from action_clip.tokenizer.prompts import read_labels, read_prompts

ROOT = Path(__file__).parents[2]


def linked(kind: str, target: Path, link: Path) -> Path:
    """Another name for the file."""
    if kind == "symbolic":
        link.symlink_to(target)
    elif kind == "hard":
        os.link(target, link)
    elif kind == "through a folder":
        (target.parent / "folder").symlink_to(target.parent)
        return target.parent / "folder" / target.name
    else:
        return target.parent / "." / "x" / ".." / target.name
    return link


LINKS = ["symbolic", "hard", "through a folder", "written otherwise"]


@pytest.mark.parametrize("kind", LINKS)
def test_inputs_are_not_overwritten(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x").mkdir()
    labels = tmp_path / "labels.txt"
    labels.write_text("drinking\n")
    other = linked(kind, labels, tmp_path / "link")
    with pytest.raises(ActionClipError) as caught:
        check_apart({"--output": str(other)}, {"--video": ["clip.mp4"], "--desc_file": [labels]})
    assert str(caught.value) == (
        f"--output names the same file as --desc_file, {other}, and would overwrite it: name another file"
    )


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match="--save names the same file as --output"):
        check_apart({"--output": tmp_path / "x.png", "--save": tmp_path / "." / "x.png"}, {})
    check_apart({"--output": tmp_path / "x.json", "--save": tmp_path / "x.png"}, {"--video": [tmp_path / "x.mp4"]})


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no devices")
def test_a_terminal_may_be_read_and_written() -> None:
    check_apart({"--output": "/dev/null"}, {"--desc_file": ["/dev/null"]})


@pytest.mark.parametrize(
    "option", ["--desc_file", "--prompts", "--video", "model", "its weights", "label bank", "video bank"]
)
@pytest.mark.parametrize("kind", LINKS)
def test_the_command_writes_over_nothing_that_it_reads(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, kind: str
) -> None:
    (tmp_path / "x").mkdir()
    model = save_model(random_model(1, 8, True), tmp_path, frames=8)
    (tmp_path / "labels.txt").write_text("drinking\neating\n")
    (tmp_path / "prompts.txt").write_text("a {}\n")
    (tmp_path / "weights.data").write_bytes(b"weights")
    clip = tmp_path / "clip.gif"
    clip.write_bytes((ROOT / "samples" / "sample.gif").read_bytes())
    for bank in (LABEL_BANK, VIDEO_BANK):
        (Path(os.environ["ACTION_CLIP_HOME"]) / bank).write_bytes(b"bank")
    read = {
        "--desc_file": tmp_path / "labels.txt",
        "--prompts": tmp_path / "prompts.txt",
        "--video": clip,
        "model": next(tmp_path.glob("*.onnx")),
        "its weights": tmp_path / "weights.data",
        "label bank": Path(os.environ["ACTION_CLIP_HOME"]) / LABEL_BANK,
        "video bank": Path(os.environ["ACTION_CLIP_HOME"]) / VIDEO_BANK,
    }
    before = read[option].read_bytes()
    if option.endswith("bank"):
        (read[option].parent / "x").mkdir()
    other = linked(kind, read[option], tmp_path / "link.png")
    arguments = ["--model", str(model)]
    for name in ("--desc_file", "--prompts", "--video"):
        arguments += [name, str(read[name])]
    for output in ("--output", "--save") if other.suffix == ".png" else ("--output",):
        more = ["--output", str(tmp_path / "answer.txt")] if output == "--save" else []
        assert main([*arguments, *more, output, str(other)]) == 1
        answer = capsys.readouterr()
        assert answer.out == ""
        name = option if option.startswith("--") else "a file of the model"
        assert f"{output} names the same file as {name}, " in answer.err
        assert read[option].read_bytes() == before


def test_a_class_map_and_what_is_kept_are_not_written_over(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = save_closed_model(random_closed_model(1, frames=4), tmp_path / "closed")
    classmap = tmp_path / "classes.txt"
    classmap.write_text("\n".join(CLASSES))
    arguments = ["--model", str(model), "--classmap", str(classmap)]
    assert main(arguments) == 0
    kept = next(Path(os.environ["ACTION_CLIP_HOME"], "optimised").glob("*/graph.onnx"))
    capsys.readouterr()
    for target, name in ((classmap, "--classmap"), (kept, "a file of the model")):
        before = target.read_bytes()
        assert main([*arguments, "--output", str(target)]) == 1
        assert f"--output names the same file as {name}, " in capsys.readouterr().err
        assert target.read_bytes() == before


@pytest.mark.parametrize(
    "taken",
    ["samples/sample.gif", "samples/labels.txt", "models/catalog/catalog.toml", "errors.py", "action_clip/__init__.py"],
)
def test_the_program_does_not_write_over_itself(capsys: pytest.CaptureFixture[str], taken: str) -> None:
    before = (ROOT / taken).read_bytes()
    assert main(["--model", "nano", "--output", str(ROOT / taken)]) == 1
    assert "--output names the same file as a file of this program, " in capsys.readouterr().err
    assert (ROOT / taken).read_bytes() == before


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout")
@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1", "link"])
@pytest.mark.parametrize("mode", ["ab", "wb"])
def test_what_is_open_already_is_written_to_and_not_replaced(tmp_path: Path, name: str, mode: str) -> None:
    target = tmp_path / "all.csv"
    target.write_bytes(b"kept\n")
    if name == "link":
        (tmp_path / "link").symlink_to("/dev/stdout")
        name = str(tmp_path / "link")
    code = "from action_clip.system.files import write_file; "
    code += f"print('head', flush=True); write_file({name!r}, b'answer\\n'); print('foot')"
    with target.open(mode) as out:
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=out, check=True)
    assert target.read_bytes() == (b"kept\n" if mode == "ab" else b"") + b"head\nanswer\nfoot\n"


def test_a_draft_is_gone_unless_it_got_its_name(tmp_path: Path) -> None:
    with draft(tmp_path / "a") as path:
        path.write_text("x")
        path.replace(tmp_path / "b")
    with pytest.raises(ValueError, match="stop"), draft(tmp_path / "c") as path:  # noqa: PT012
        path.write_text("x")
        raise ValueError("stop")
    with draft_folder(tmp_path) as folder:
        (folder / "d").write_text("x")
        assert os.listdir(folder) == ["d"]
    assert os.listdir(tmp_path) == ["b"]
    assert files._drafts == set()


def test_a_process_that_ends_where_it_is_leaves_no_drafts(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    with draft_folder(tmp_path) as folder, draft(tmp_path / "file") as file:
        file.write_text("x")
        (folder / "link").symlink_to(outside)
        remove_drafts()
        assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["kept"]


def test_a_file_that_cannot_be_written_whole_is_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "answer.json"
    target.write_text("before")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from action_clip.system.files import write_file\n"
        f"write_file({str(target)!r}, b'x' * 2000)\n"
    )
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "ActionClipError: cannot write" in done.stderr
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["answer.json"]
    write_file(target, b"after")
    assert target.read_text() == "after"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices")
@pytest.mark.parametrize("read", [read_labels, read_prompts, read_classmap])
def test_an_endless_text_is_refused(read: Callable[[str], object]) -> None:
    with pytest.raises(ActionClipError, match=r"/dev/zero has more than 16 MiB: give a shorter one$"):
        read("/dev/zero")


@pytest.mark.parametrize("name", ["a\0b", "missing", "x" * 5000])
def test_a_text_that_cannot_be_opened_is_one_sentence(name: str) -> None:
    with pytest.raises(ActionClipError, match=r"^the labels file .* cannot be read \(.+\): name a text file$"):
        read_text(name, "labels file")


@pytest.mark.skipif(os.name == "nt", reason="files have no limit of this kind")
def test_lines_that_do_not_fit_are_not_written_in_part(tmp_path: Path) -> None:
    """The limit of this process to the size of files stands for a full disk."""
    code = """
import resource, signal, sys
from action_clip.errors import ActionClipError
from action_clip.system.files import LineFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (25, 25))
file = LineFile(sys.argv[1])
try:
    for number in range(10):
        file.write(f"line {number}\\n")
except ActionClipError as error:
    print(error)
file.close()
"""
    path = tmp_path / "out.txt"
    path.write_text("what was there before, and is longer")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {path}: File too large; name another file\n"
    assert path.read_text() == "line 0\nline 1\nline 2\n"


@pytest.mark.skipif(os.name == "nt", reason="no such device")
def test_lines_may_go_to_a_device_that_is_full(tmp_path: Path) -> None:
    with (
        pytest.raises(ActionClipError, match="cannot write /dev/full: No space left on device"),
        LineFile("/dev/full") as f,
    ):
        f.write("line\n")
    with pytest.raises(ActionClipError, match="cannot write"):
        LineFile(tmp_path)


def test_each_line_is_there_at_once(tmp_path: Path) -> None:
    with LineFile(tmp_path / "out.txt") as file:
        file.write("läuft\n")
        assert (tmp_path / "out.txt").read_bytes() == "läuft\n".encode()
        file.write("\udcff\n")
    assert (tmp_path / "out.txt").read_text() == "läuft\n\\udcff\n"
