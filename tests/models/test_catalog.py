import subprocess
import sys
from pathlib import Path

import pytest

from errors import ActionClipError
from models.catalog import CATALOG_FILE, ROLES, catalog, find, read_catalog
from tokenizer.prompts import DEFAULT_PROMPTS


def test_models_of_the_catalog() -> None:
    assert [spec.name for spec in catalog()][:2] == ["vit-32-8f", "nano"]
    for spec in catalog():
        assert tuple(file.role for file in spec.files) == ROLES
        assert (spec.folder is None) == all(file.url is not None for file in spec.files)
        assert (spec.frames, spec.image_size, spec.resize) == (8, 224, 256)
        assert spec.mean == (0.48145466, 0.4578275, 0.40821073)
        assert spec.std == (0.26862954, 0.26130258, 0.27577711)
        assert spec.prompts == DEFAULT_PROMPTS


def test_ailias_graphs() -> None:
    spec = find("vit-32-8f")
    assert spec is not None
    assert spec is find("clip_vit_b32")
    base = "https://storage.googleapis.com/ailia-models/action_clip/"
    assert [(file.role, file.name, file.url) for file in spec.files] == [
        ("text", "vit-32-8f-text_clip.opt.onnx", base + "vit-32-8f-text_clip.opt.onnx"),
        ("image", "vit-32-8f-image_clip.onnx", base + "vit-32-8f-image_clip.onnx"),
        ("fusion", "vit-32-8f-fusion.onnx", base + "vit-32-8f-fusion.onnx"),
    ]
    assert spec.files[0].also_accepted == ("vit-32-8f-text_clip.onnx",)
    assert spec.logit_scale == 100
    assert "78.36" in spec.accuracy
    assert "94.25" in spec.accuracy
    assert "MIT" in spec.licence


def test_nano_is_embedded() -> None:
    spec = find("nano")
    assert spec is not None
    assert spec.folder == "nano"
    assert [file.name for file in spec.files] == ["text.onnx", "image.onnx", "fusion.onnx"]
    assert spec.size < 25_000_000


def test_unknown_name() -> None:
    assert find("vit-99") is None
    assert find("") is None


HEAD = """
[[model]]
name = "tiny"
aliases = ["small"]
kind = "zero-shot"
description = "three files"
frames = 8
image_size = 224
resize = 256
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 1]
logit_scale = 100
licence = "MIT"
accuracy = "none"
citation = "none"
size = 6000
prompts = ["a {}", "{}"]
"""
FILES = """
[model.files.text]
name = "text.onnx"
url = "https://models.example/text.onnx"
size = 3000
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
also_accepted = ["old.onnx"]
[model.files.image]
name = "image.onnx"
url = "https://models.example/image.onnx"
[model.files.fusion]
name = "fusion.onnx"
url = "https://models.example/fusion.onnx"
"""
GOOD = HEAD + FILES


def read(folder: Path, text: str) -> str:
    """The message about a catalog of that text, less the file's name."""
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ActionClipError) as caught:
        read_catalog(path)
    return str(caught.value).removeprefix(str(path))


def test_everything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(GOOD, encoding="utf-8")
    (spec,) = read_catalog(path)
    assert (spec.name, spec.aliases, spec.prompts) == ("tiny", ("small",), ("a {}", "{}"))
    assert (spec.std, spec.logit_scale, spec.size, spec.folder) == ((0.5, 0.5, 1.0), 100.0, 6000, None)
    text, image, _ = spec.files
    assert (text.size, text.sha256, text.also_accepted) == (3000, "0" * 64, ("old.onnx",))
    assert (image.size, image.sha256, image.also_accepted) == (None, None, ())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("frames = 8\n", "", " ('tiny'): the key 'frames' is missing"),
        ("frames = 8", "frames = 0", " ('tiny'): the key 'frames' must be a whole number above 0, not 0"),
        ("frames = 8", "frames = true", ": the key 'frames' must be a whole number above 0, not True"),
        ("frames = 8", "frames = 8\nframe = 1", " ('tiny'): the key 'frame' is not known"),
        ('name = "tiny"\n', "", ": the key 'name' is missing"),
        ('"tiny"', '"Tiny/1"', ": the key 'name' must be a name of lower-case letters, digits,"),
        ('["small"]', '"small"', " ('tiny'): the key 'aliases' must be a list of names, not 'small'"),
        ('"zero-shot"', '"magic"', " ('tiny'): the key 'kind' must be one of 'zero-shot', not 'magic'"),
        ('"three files"', '" "', " ('tiny'): the key 'description' must be a text, not ' '"),
        ("resize = 256", "resize = 223", " ('tiny'): the key 'resize' must not be below image_size"),
        ("mean = [0.5, 0.5, 0.5]", "mean = 0.5", " ('tiny'): the key 'mean' must be three numbers, not 0.5"),
        ("[0.5, 0.5, 0.5]", "[0.5, 0.5]", " ('tiny'): the key 'mean' must be three numbers, not [0.5, 0.5]"),
        ("[0.5, 0.5, 1]", "[0.5, 0, 1]", ": the key 'std' must be three numbers above 0, not [0.5, 0, 1]"),
        ("= 100", "= nan", " ('tiny'): the key 'logit_scale' must be a number, not nan"),
        ("= 100", "= -1", " ('tiny'): the key 'logit_scale' must be a number above 0, not -1"),
        ('"a {}"', '"a"', " ('tiny'): the key 'prompts' must be a list of templates with one {} each, not"),
        ('["a {}", "{}"]', "[]", ": the key 'prompts' must be a list of templates with one {} each, not []"),
        ("files.image]", "files.video]", " ('tiny'), files: the key 'image' is missing"),
        ("[model.files.image]", "[model.files.x]\n[model.files.image]", ", files: the key 'x' is not known"),
        (
            '"image.onnx"',
            '"../image.onnx"',
            ", files.image: the key 'name' must be a plain file or folder name,",
        ),
        (
            '"https://models.example/image.onnx"',
            '"http://m/i"',
            "files.image: the key 'url' must be an https URL,",
        ),
        ('url = "https://models.example/image.onnx"', "", " ('tiny'), files.image: the key 'url' is missing"),
        ('"00', '"XX', ", files.text: the key 'sha256' must be 64 lower-case hexadecimal digits, not 'XX"),
        (
            '["old.onnx"]',
            '["/old.onnx"]',
            ", files.text: the key 'also_accepted' must be a plain file or folder",
        ),
        ("size = 6000", 'size = 6000\nfolder = "tiny"', " ('tiny'), files.text: the key 'url' is not known"),
        ('["small"]', '["tiny"]', "'tiny': the name 'tiny' is already taken by 'tiny'"),
    ],
)
def test_damaged_entry(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert GOOD.count(old) == 1
    found = read(tmp_path, GOOD.replace(old, new))
    assert found.startswith(", model ")
    assert message in found


def test_name_of_another_model(tmp_path: Path) -> None:
    second = GOOD.replace('"tiny"', '"huge"')
    assert read(tmp_path, GOOD + second) == ", model 'huge': the name 'small' is already taken by 'tiny'"
    second = second.replace("frames = 8", "frames = 1.5")
    assert read(tmp_path, GOOD + second).startswith(", model 2 ('huge'): the key 'frames' must be")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": the key 'model' is missing"),
        ("model = []", ": the key 'model' must be a list of one table a model ([[model]]), not []"),
        ("[model]\nname = 1", ": the key 'model' must be a list"),
        ("[[model]", ": is not valid TOML: "),
        (GOOD.replace("[[model]]", "version = 1\n[[model]]"), ": the key 'version' is not known"),
    ],
)
def test_damaged_file(tmp_path: Path, text: str, message: str) -> None:
    assert read(tmp_path, text).startswith(message)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match=r"none\.toml: cannot be read \(No such file or directory\)"):
        read_catalog(tmp_path / "none.toml")


def test_import_is_cheap() -> None:
    code = (
        "import sys, models.catalog, models.store; models.catalog.catalog(); "
        "print({'requests', 'tqdm', 'filelock', 'platformdirs', 'onnxruntime', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CATALOG_FILE.parents[1], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
