"""Checkpoints that run code when PyTorch loads them, in every way into the exporter: none of it runs."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import onnx
import pytest
import torch
from checkpoint_files import SIZES, assert_same, hugging_face_config, open_clip_config, plain, read, write_json
from fault_server import FaultServer
from hostile_archives import HOSTILE, save_hostile
from random_checkpoints import openai_state, with_openai_facts
from random_timesformer import timesformer_config
from small_models import random_model, save_model

from action_clip.errors import ActionClipError
from action_clip.export.command import main
from action_clip.models.catalog.specs import find

ROOT = Path(__file__).parents[2]


def as_file(suffix: str) -> Callable[[Path], list[str]]:
    return lambda archive: [str(archive.rename(archive.with_suffix(suffix)))]


def as_timesformer(archive: Path) -> list[str]:
    return ["timesformer", str(archive)]


def in_folder(archive: Path, name: str, config: str, content: object) -> list[str]:
    folder = archive.parent / "folder"
    folder.mkdir()
    archive.rename(folder / name)
    write_json(folder / config, content)
    return [str(folder)]


def in_hugging_face(archive: Path) -> list[str]:
    return in_folder(archive, "pytorch_model.bin", "config.json", hugging_face_config())


def in_timesformer(archive: Path) -> list[str]:
    return ["timesformer", *in_folder(archive, "pytorch_model.bin", "config.json", timesformer_config())]


def in_shard(archive: Path) -> list[str]:
    arguments = in_folder(archive, "part.bin", "config.json", hugging_face_config())
    write_json(Path(arguments[0]) / "pytorch_model.bin.index.json", {"weight_map": {"a": "part.bin"}})
    return arguments


def in_open_clip(archive: Path) -> list[str]:
    return in_folder(archive, "open_clip_pytorch_model.bin", "open_clip_config.json", open_clip_config())


WAYS: dict[str, Callable[[Path], list[str]]] = {
    **{suffix: as_file(suffix) for suffix in (".pt", ".pth", ".bin", ".pyth", ".safetensors")},
    "timesformer": as_timesformer,
    "Hugging Face": in_hugging_face,
    "Hugging Face's TimeSformer": in_timesformer,
    "shard": in_shard,
    "open_clip": in_open_clip,
}
REFUSED = "holds more than weights (__torch__.hostile_archives."


def assert_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert REFUSED in err or ".safetensors is damaged or no checkpoint" in err


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """What must not be written."""
    return tmp_path / "written.py"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["writes", "fills"])
def test_no_way_in(tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str], way: str, kind: str) -> None:
    archive = tmp_path / "archive.pt"
    save_hostile({"a.b": torch.ones(2)}, archive, kind, target)
    assert_refused([*WAYS[way](archive), "--out", str(tmp_path / "out")], capsys)
    assert not target.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["writes", "fills"])
def test_comparing_runs_nothing(tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    folder = save_model(random_model(0, 8, transformer=False), tmp_path / "model", frames=8)
    for path in folder.glob("*.onnx"):
        graph = onnx.load(path)
        graph.metadata_props.add(key="precision", value="fp32")
        onnx.save(graph, path)
    archive = tmp_path / "archive.pt"
    save_hostile({"a.b": torch.ones(2)}, archive, kind, target)
    assert_refused(["--check", str(folder), "--against", str(archive)], capsys)
    assert not target.exists()


@pytest.mark.parametrize("name", ["vit-b-32-8f", "timesformer_k400_8x224"])
def test_downloads_run_nothing(
    tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spec = find(name)
    assert spec is not None
    assert spec.checkpoint is not None
    if spec.checkpoint.sha256 is not None:
        pytest.skip("the catalog knows its hash")
    archive = tmp_path / "archive.pt"
    save_hostile({"a.b": torch.ones(2)}, archive, "writes", target)
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    with FaultServer() as server:
        monkeypatch.setenv("ACTION_CLIP_MIRROR", server.url)
        server.add(urlsplit(spec.checkpoint.url or "").path, archive.read_bytes())
        arguments = ["timesformer", name] if spec.kind == "closed-set" else [name]
        capsys.readouterr()
        assert main(arguments) == 1
        assert len(server.requests) == 1
    assert REFUSED in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.slow
@pytest.mark.parametrize("way", [".pt", "Hugging Face", "timesformer"])
def test_what_never_returns_is_refused(tmp_path: Path, target: Path, way: str) -> None:
    archive = tmp_path / "archive.pt"
    save_hostile({"a.b": torch.ones(2)}, archive, "loops", target)
    done = subprocess.run(
        [sys.executable, "-m", "export", *WAYS[way](archive), "--out", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert REFUSED in done.stderr.splitlines()[-1]


def renamed_records(archive: Path, rename: Callable[[str], str]) -> None:
    """The same records by other names."""
    with zipfile.ZipFile(archive) as old:
        records = [(info.filename, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(archive, "w") as new:
        for name, content in records:
            if renamed := rename(name):
                new.writestr(renamed, content)


def doubled(archive: Path) -> None:
    """A harmless pickle before the other one of the same name, and behind it."""
    with zipfile.ZipFile(archive) as old:
        records = [(info.filename, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(archive, "w") as new:
        for name, content in records:
            if name.endswith("/data.pkl"):
                new.writestr(name, b"\x80\x02}.")
            new.writestr(name, content)


def other_names_in_front(archive: Path) -> None:
    """The list of records, at the end, says other names than the records themselves: these are what PyTorch reads."""
    content = archive.read_bytes()
    at = content.rindex(b"constants.pkl")
    archive.write_bytes(content[:at] + b"CONSTANTS.PKL" + content[at + 13 :])


DISGUISES: dict[str, Callable[[Path], object]] = {
    "no constants": lambda archive: renamed_records(archive, lambda name: name * (not name.endswith("constants.pkl"))),
    "capitals": lambda archive: renamed_records(archive, str.upper),
    "capital constants": lambda archive: renamed_records(archive, lambda name: name.replace("constants", "Constants")),
    "deeper": lambda archive: renamed_records(archive, lambda name: f"folder/{name}"),
    "no folder": lambda archive: renamed_records(archive, lambda name: name.partition("/")[2]),
    "doubled": doubled,
    "other names": other_names_in_front,
    "text before": lambda archive: archive.write_bytes(b"Hello\n" + archive.read_bytes()),
    "text behind": lambda archive: archive.write_bytes(archive.read_bytes() + b"Hello\n"),
    "a legacy start": lambda archive: archive.write_bytes(b"\x80\x02" + archive.read_bytes()),
    "two archives": lambda archive: archive.write_bytes(archive.read_bytes() * 2),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_disguises(tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str], disguise: str) -> None:
    archive = tmp_path / "archive.pt"
    save_hostile({"a.b": torch.ones(2)}, archive, "writes", target)
    DISGUISES[disguise](archive)
    assert main([str(archive), "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(str(archive))
    assert not target.exists()


@pytest.mark.parametrize("trust", [False, True])
def test_weights_beside_foreign_code_are_read(tmp_path: Path, target: Path, trust: bool) -> None:
    # The code would be of an object that is no module: no weight is its to restore.
    clip = openai_state(SIZES)
    archive = tmp_path / "archive.pt"
    save_hostile(with_openai_facts(clip), archive, "carries", target)
    assert_same(read(archive, trust=trust), plain(tmp_path, clip))
    assert not target.exists()


def test_what_trust_means(tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "archive.pt"
    save_hostile(with_openai_facts(openai_state(SIZES)), archive, "writes", target)
    with pytest.raises(ActionClipError, match="the checkpoint has left over hostile"):
        read(archive, trust=True)
    assert target.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_these_archives_are_what_they_are_said_to_be(tmp_path: Path, target: Path, kind: str) -> None:
    """Loaded by PyTorch, they do it: else the tests above would say nothing."""
    archive = tmp_path / "archive.pt"
    save_hostile({"a.b": torch.ones(2)}, archive, kind, target)
    code = "import sys, torch; print('loading', flush=True); torch.jit.load(sys.argv[1])"
    load = [sys.executable, "-W", "ignore", "-c", code, str(archive)]
    if kind == "loops":
        with subprocess.Popen(load, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == b"loading"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
    else:
        subprocess.run(load, check=True)
        assert target.exists()
