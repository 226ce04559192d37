import subprocess
import sys
from pathlib import Path

import pytest

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import CATALOG_FILE, ROLES, ModelFile, catalog, find, read_catalog
from action_clip.tokenizer.prompts import DEFAULT_NONE_TEXTS, DEFAULT_PROMPTS

OPENMMLAB = "https://download.openmmlab.com/mmaction/v1.0/projects/actionclip/actionclip_vit-base-"
OPENAI = "https://openaipublic.azureedge.net/clip/models/"
B32 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
B16 = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
# What is exported: frames, resize, megabytes, accuracy, where the checkpoint is.
EXPORTED = {
    "vit-b-32-8f": (8, 256, 681, "77.6 %", OPENMMLAB + "p32-res224-clip-pre_1x1x8_k400-rgb/vit-b-32-8f.pth"),
    "vit-b-16-8f": (8, 256, 674, "80.3 %", OPENMMLAB + "p16-res224-clip-pre_1x1x8_k400-rgb/vit-b-16-8f.pth"),
    "vit-b-16-16f": (16, 256, 674, "81.1 %", OPENMMLAB + "p16-res224-clip-pre_1x1x16_k400-rgb/vit-b-16-16f.pth"),
    "vit-b-16-32f": (32, 256, 674, "81.3 %", OPENMMLAB + "p16-res224-clip-pre_1x1x32_k400-rgb/vit-b-16-32f.pth"),
    "clip-vit-b-32": (8, 224, 605, "not stated", f"{OPENAI}{B32}/ViT-B-32.pt"),
    "clip-vit-b-16": (8, 224, 598, "68.1 %", f"{OPENAI}{B16}/ViT-B-16.pt"),
}


def test_models_of_the_catalog() -> None:
    assert [spec.name for spec in catalog()] == ["vit-32-8f", "nano", *EXPORTED, "timesformer_k400_8x224"]
    for spec in catalog()[:-1]:
        assert tuple(file.role for file in spec.files) == ROLES[spec.kind]
        is_downloaded = spec.folder is None and spec.checkpoint is None
        assert [file.url is not None for file in spec.files] == [is_downloaded] * 3
        assert (spec.image_size, spec.kind) == (224, "zero-shot")
        assert spec.mean == (0.48145466, 0.4578275, 0.40821073)
        assert spec.std == (0.26862954, 0.26130258, 0.27577711)
        assert spec.prompts == DEFAULT_PROMPTS
        assert spec.none_texts == DEFAULT_NONE_TEXTS
        assert (spec.none_threshold, spec.multi_label_threshold) == ((0.29, 0.37) if spec.name == "nano" else (0, 0.5))
        is_mmactions = spec.checkpoint is not None and (spec.checkpoint.url or "").startswith(OPENMMLAB)
        assert (spec.classes, spec.uniform) == ((), "midpoints" if is_mmactions else "segments")


def test_timesformer() -> None:
    spec = find("timesformer_k400_8x224")
    assert spec is not None
    assert spec.kind == "closed-set"
    assert [file.name for file in spec.files] == ["video.onnx"]
    assert (spec.frames, spec.image_size, spec.resize, spec.uniform) == (8, 224, 224, "linspace")
    assert (spec.mean, spec.std) == ((0.45,) * 3, (0.225,) * 3)
    assert (spec.prompts, len(spec.classes), spec.none_texts) == ((), 400, ())
    assert [spec.classes[index] for index in (0, 100, 399)] == ["abseiling", "drinking", "zumba"]
    assert spec.checkpoint is not None
    assert spec.checkpoint.url == (
        "https://huggingface.co/facebook/timesformer-base-finetuned-k400/resolve/main/pytorch_model.bin"
    )
    assert "77.9 %" in spec.accuracy
    assert "NC" in spec.licence


def test_ailias_graphs() -> None:
    spec = find("vit-32-8f")
    assert spec is not None
    assert spec is find("clip_vit_b32")
    assert (spec.frames, spec.resize, spec.checkpoint) == (8, 256, None)
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
    assert (spec.folder, spec.checkpoint) == ("nano", None)
    assert (spec.frames, spec.resize) == (8, 256)
    assert [file.name for file in spec.files] == ["text.onnx", "image.onnx", "fusion.onnx"]
    assert spec.size < 25_000_000


@pytest.mark.parametrize("name", EXPORTED)
def test_models_to_be_exported(name: str) -> None:
    spec = find(name)
    assert spec is not None
    assert spec.checkpoint is not None
    frames, resize, megabytes, accuracy, url = EXPORTED[name]
    assert (spec.frames, spec.resize, spec.size, spec.logit_scale) == (frames, resize, megabytes * 10**6, 100)
    assert (spec.folder, spec.aliases) == (None, ("clip_vit_b16",) if name == "vit-b-16-8f" else ())
    assert accuracy in spec.accuracy
    assert spec.files == tuple(ModelFile(role, f"{role}.onnx") for role in ROLES["zero-shot"])
    folder, file_name = url.split("/")[-2:]
    is_frozen = name.startswith("clip")
    assert spec.checkpoint == ModelFile("checkpoint", file_name, url, sha256=folder if is_frozen else None)
    assert spec.licence.startswith("MIT")
    assert ("mmaction2 (Apache-2.0)" in spec.licence) is not is_frozen
    assert ("2103.00020" if is_frozen else "2109.08472") in spec.citation


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
none_texts = ["nothing", "a  wall"]
none_threshold = 0.25
multi_label_threshold = 1
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
GOOD_EXPORTED = (
    HEAD
    + """
[model.checkpoint]
name = "tiny.pth"
url = "https://models.example/tiny.pth"
size = 9000
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
"""
)


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
    assert (spec.std, spec.logit_scale, spec.size) == ((0.5, 0.5, 1.0), 100.0, 6000)
    assert (spec.folder, spec.checkpoint) == (None, None)
    assert spec.none_texts == ("nothing", "a wall")
    assert (spec.none_threshold, spec.multi_label_threshold) == (0.25, 1.0)
    text, image, _ = spec.files
    assert (text.size, text.sha256, text.also_accepted) == (3000, "0" * 64, ("old.onnx",))
    assert (image.size, image.sha256, image.also_accepted) == (None, None, ())


def test_defaults_are_those_of_clip(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    kept = [line for line in GOOD.splitlines() if not line.startswith(("mean", "std", "prompts", "none", "multi"))]
    path.write_text("\n".join(kept), encoding="utf-8")
    (spec,) = read_catalog(path)
    assert spec.mean == (0.48145466, 0.4578275, 0.40821073)
    assert spec.std == (0.26862954, 0.26130258, 0.27577711)
    assert spec.prompts == DEFAULT_PROMPTS
    assert spec.none_texts == DEFAULT_NONE_TEXTS
    assert (spec.none_threshold, spec.multi_label_threshold) == (0, 0.5)


def test_everything_of_an_exported_model_is_read(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    optional = f'size = 9000\nsha256 = "{"0" * 64}"\n'
    assert optional in GOOD_EXPORTED
    second = GOOD_EXPORTED.replace(optional, "").replace('"tiny"', '"huge"').replace('"small"', "")
    path.write_text(GOOD_EXPORTED + second, encoding="utf-8")
    tiny, huge = read_catalog(path)
    url = "https://models.example/tiny.pth"
    assert tiny.checkpoint == ModelFile("checkpoint", "tiny.pth", url, 9000, "0" * 64)
    assert huge.checkpoint == ModelFile("checkpoint", "tiny.pth", url)
    assert tiny.folder is None
    assert (tiny.mean, tiny.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 1.0))
    assert tiny.files == tuple(ModelFile(role, f"{role}.onnx") for role in ROLES["zero-shot"])


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
        ('"zero-shot"', '"magic"', " ('tiny'): the key 'kind' must be one of 'zero-shot', 'closed-set', not 'magic'"),
        ('"three files"', '" "', " ('tiny'): the key 'description' must be a text, not ' '"),
        ("resize = 256", "resize = 223", " ('tiny'): the key 'resize' must not be below image_size"),
        ("mean = [0.5, 0.5, 0.5]", "mean = 0.5", " ('tiny'): the key 'mean' must be three numbers, not 0.5"),
        ("[0.5, 0.5, 0.5]", "[0.5, 0.5]", " ('tiny'): the key 'mean' must be three numbers, not [0.5, 0.5]"),
        ("[0.5, 0.5, 1]", "[0.5, 0, 1]", ": the key 'std' must be three numbers above 0, not [0.5, 0, 1]"),
        ("= 100", "= nan", " ('tiny'): the key 'logit_scale' must be a number, not nan"),
        ("= 100", "= -1", " ('tiny'): the key 'logit_scale' must be a number above 0, not -1"),
        ('"a {}"', '"a"', " ('tiny'): the key 'prompts' must be a list of templates with one {} each, not"),
        ('["a {}", "{}"]', "[]", ": the key 'prompts' must be a list of templates with one {} each, not []"),
        ('["nothing", "a  wall"]', "[]", " ('tiny'): the key 'none_texts' must be a list of texts, not []"),
        ('"a  wall"', '" "', " ('tiny'): the key 'none_texts' must be a text, not ['nothing', ' ']"),
        ("= 0.25", "= 1.5", " ('tiny'): the key 'none_threshold' must be a number from 0 to 1, not 1.5"),
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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size = 6000", 'size = 6000\nfolder = "tiny"', ": the keys 'folder' and 'checkpoint' exclude each other"),
        ("[model.checkpoint]", '[model.files]\ntext.name = "t"\n[model.checkpoint]', ": the key 'files' is not known"),
        ("size = 9000", 'also_accepted = ["old.pth"]', ", checkpoint: the key 'also_accepted' is not known"),
        ("size = 9000", "size = 0", ", checkpoint: the key 'size' must be a whole number above 0, not 0"),
        ('sha256 = "0', 'sha256 = "', ", checkpoint: the key 'sha256' must be 64 lower-case hexadecimal digits, not '"),
        ('name = "tiny.pth"\n', "", ", checkpoint: the key 'name' is missing"),
        ('url = "https://models.example/tiny.pth"\n', "", ", checkpoint: the key 'url' is missing"),
        ('"https://models', '"http://models', ", checkpoint: the key 'url' must be an https URL, not 'http:"),
        ("size = 6000", "size = 6000\ncheckpoints = {}", ": the key 'checkpoints' is not known"),
    ],
)
def test_damaged_entry_of_an_exported_model(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert GOOD_EXPORTED.count(old) == 1
    assert read(tmp_path, GOOD_EXPORTED.replace(old, new)).startswith(f", model 1 ('tiny'){message}")


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ('"tiny.pth"', ": the key 'checkpoint' must be a table, not 'tiny.pth'"),
        ("{}", ", checkpoint: the key 'name' is missing"),
    ],
)
def test_checkpoint_that_is_no_table(tmp_path: Path, checkpoint: str, message: str) -> None:
    text = HEAD + f"checkpoint = {checkpoint}" + FILES
    assert read(tmp_path, text) == f", model 1 ('tiny'){message}"


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
        "import sys; from action_clip.models.catalog.specs import catalog; catalog(); "
        "import action_clip.models.store.installation; "
        "heavy = {'requests', 'ssl', 'http.client', 'tqdm', 'filelock', 'platformdirs', 'onnxruntime', 'numpy'}; "
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CATALOG_FILE.parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
