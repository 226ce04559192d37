"""Other programs for the same task, with the same weights: `python -m benchmarks.peers NAME WORK LABELS_FILE`.

Each is used as its own users would use it. Frames, preprocessing and scores are those of the yardstick; so are the
tokens, padded as the peer's own tokenizer pads them.
"""

import importlib
import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, fill_prompts, read_labels
from benchmarks.contestants import PEERS, find
from benchmarks.inputs import ABSENT, FRAMES, Inputs
from benchmarks.reference_flow import BATCH, answer, preprocess, read_frames, score, timed

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Tokens = NDArray[np.int64]


class Peer(ABC):
    """A CLIP with ActionCLIP's fusion, ready to run. The constructor raises ImportError where a package is missing."""

    @abstractmethod
    def text(self, tokens: Tokens) -> Floats:
        """Return the features, (N, D), not normalised, of (N, 77) zero-padded tokens."""

    @abstractmethod
    def video(self, clip: Floats) -> Floats:
        """Return the features, (D,), not normalised, of a clip, (T, 3, S, S)."""


class PyTorch(Peer):
    """A CLIP in PyTorch, with the fusion as this project's exporter has it."""

    def __init__(self, inputs: Inputs, threads: int | None) -> None:
        import torch

        from action_clip.export.checkpoint_reading import canonical
        from action_clip.export.clip.networks import TransformerFusion
        from action_clip.export.transformer import TransformerConfig

        if threads is not None:
            torch.set_num_threads(threads)
        self._torch = torch
        weights = torch.load(inputs.checkpoint, mmap=True, weights_only=True)
        self._head = TransformerFusion(TransformerConfig(512, 6, 8, 2048), 77, 1e-12).eval()
        self._head.load_state_dict(canonical(weights["fusion_model_state_dict"]))
        self._model = self._load(inputs, weights["model_state_dict"]).eval()

    @abstractmethod
    def _load(self, inputs: Inputs, state: "dict[str, Tensor]") -> Any: ...

    @abstractmethod
    def _texts(self, tokens: "Tensor") -> "Tensor": ...

    @abstractmethod
    def _images(self, frames: "Tensor") -> "Tensor": ...

    def text(self, tokens: Tokens) -> Floats:
        with self._torch.inference_mode():
            features: Floats = self._texts(self._torch.from_numpy(tokens)).numpy()
            return features

    def video(self, clip: Floats) -> Floats:
        features: Floats = self.videos(self._torch.from_numpy(clip[np.newaxis]))[0]
        return features

    def videos(self, clips: "Tensor") -> Floats:
        """Return the features, (N, D), not normalised, of N clips, (N, T, 3, S, S)."""
        with self._torch.inference_mode():
            frames = self._images(clips.flatten(0, 1)).reshape(*clips.shape[:2], -1)
            features: Floats = self._head(frames).numpy()
            return features


class Transformers(PyTorch):
    """transformers' CLIPModel, unchanged; its tokenizer pads to the longest text."""

    def _load(self, inputs: Inputs, state: "dict[str, Tensor]") -> Any:
        from transformers import CLIPModel

        return CLIPModel.from_pretrained(inputs.transformers)

    def _texts(self, tokens: "Tensor") -> "Tensor":
        lengths = tokens.argmax(1) + 1
        longest = int(lengths.max())
        mask = self._torch.arange(longest) < lengths[:, None]
        return self._projected(self._model.get_text_features(tokens[:, :longest], mask.long()))

    def _images(self, frames: "Tensor") -> "Tensor":
        return self._projected(self._model.get_image_features(frames))

    def _projected(self, output: Any) -> "Tensor":
        # Version 5 wraps what version 4 returned.
        features: Tensor = getattr(output, "pooler_output", output)
        return features


class OpenClip(PyTorch):
    """open_clip's ViT-B-32-quickgelu; its tokenizer always pads to 77."""

    def _load(self, inputs: Inputs, state: "dict[str, Tensor]") -> Any:
        vision = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
        text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
        model = _open_clip().CLIP(512, vision, text, quick_gelu=True)
        model.load_state_dict(state)
        return model

    def _texts(self, tokens: "Tensor") -> "Tensor":
        features: Tensor = self._model.encode_text(tokens)
        return features

    def _images(self, frames: "Tensor") -> "Tensor":
        features: Tensor = self._model.encode_image(frames)
        return features


class OpenVino(Peer):
    """OpenVINO with the fp32 graphs; texts are padded to the longest one, as the text graph allows any length."""

    def __init__(self, inputs: Inputs, threads: int | None, hints: dict[str, str]) -> None:
        openvino = importlib.import_module("openvino")  # untyped
        core = openvino.Core()
        if threads is not None:
            hints = {**hints, "INFERENCE_NUM_THREADS": str(threads)}
        self._text, self._image, self._fusion = (
            core.compile_model(inputs.fp32 / f"{role}.onnx", "CPU", hints) for role in ("text", "image", "fusion")
        )

    def text(self, tokens: Tokens) -> Floats:
        features: Floats = self._text(tokens[:, : tokens.argmax(1).max() + 1])[0]
        return features

    def video(self, clip: Floats) -> Floats:
        features: Floats = self._fusion(self._image(clip)[0][np.newaxis])[0][0]
        return features


def _open_clip() -> ModuleType:
    """Return open_clip.model; the whole package would import torchvision, which this model does not use.

    Raises ModuleNotFoundError where open_clip is not installed.
    """
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'open_clip'", name="open_clip")
    package = ModuleType("open_clip")
    package.__path__ = list(spec.submodule_search_locations)
    norms = ModuleType("torchvision.ops.misc")
    vars(norms)["FrozenBatchNorm2d"] = type("FrozenBatchNorm2d", (), {})
    unused = {"torchvision": ModuleType("torchvision"), "torchvision.ops": ModuleType("torchvision.ops")}
    sys.modules |= {"open_clip": package, **unused, "torchvision.ops.misc": norms}
    sys.modules |= dict.fromkeys(("timm", "transformers"))  # type: ignore[arg-type]  # None: not installed
    return importlib.import_module("open_clip.model")


def encode_labels(peer: Peer, labels: Sequence[str]) -> Floats:
    """Return the features of the labels in all prompts, (prompts × labels, D), not normalised."""
    tokens = default_tokenizer().encode(fill_prompts(DEFAULT_PROMPTS, labels))
    return np.concatenate([peer.text(tokens[i : i + BATCH]) for i in range(0, len(tokens), BATCH)])


def main() -> None:
    """Classify the clip as the yardstick does; the exit code is ABSENT where a package is not installed."""
    from action_clip.models.catalog.metadata import read_metadata

    name, work, labels_file = sys.argv[1:]
    inputs, labels = Inputs(Path(work)), read_labels(labels_file)
    timings_s: dict[str, float] = {}
    with timed(timings_s, "sessions"):
        try:
            contestant = find(PEERS, name)
            peer: Peer = contestant.load()(inputs, None, *contestant.arguments)
        except ImportError as error:
            print(error, file=sys.stderr)
            sys.exit(ABSENT)
    facts = read_metadata(inputs.fp32 / "image.onnx")
    with timed(timings_s, "text"):
        texts = encode_labels(peer, labels)
    with timed(timings_s, "decode"):
        frames = read_frames(inputs.clip, FRAMES)
    with timed(timings_s, "preprocess"):
        clip = preprocess(frames, facts)
    with timed(timings_s, "image"):
        video = peer.video(clip)
    with timed(timings_s, "score"):
        probabilities = score(video, texts, len(DEFAULT_PROMPTS), float(facts["logit_scale"]))
    print(answer(inputs.clip, labels, probabilities, timings_s))


if __name__ == "__main__":
    main()
