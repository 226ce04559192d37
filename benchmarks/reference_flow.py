"""The yardstick: `python -m benchmarks.reference_flow --model FOLDER --video VIDEO --text LABEL …`.

What the script that this program replaces does, well written, on the same onnxruntime and the same graphs: three
sessions, every label in every prompt at 77 tokens, one seek a frame, image graph, fusion, scores.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, fill_prompts, read_labels
from action_clip.video.sampling import uniform_indices

Floats = NDArray[np.float32]
TOP = 5
# Texts of one run: no slower than all at once, with less memory.
BATCH = 64


def read_frames(video: Path, count: int) -> list[Image.Image]:
    """Return `count` uniform frames of the video, with a seek for each. Raises SystemExit where one cannot be read."""
    capture = cv2.VideoCapture(str(video))
    frames = []
    for index in uniform_indices(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), count):
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        is_read, frame = capture.read()
        if not is_read:
            raise SystemExit(f"frame {index} of {video} cannot be read")
        frames.append(Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
    capture.release()
    return frames


def preprocess(frames: list[Image.Image], facts: dict[str, str]) -> Floats:
    """Return the frames resized, cropped and normalised, (T, 3, S, S); `facts` is the image graph's metadata."""
    short, size = int(facts["resize"]), int(facts["image_size"])
    crops = []
    for frame in frames:
        width, height = (int(short * side / min(frame.size)) for side in frame.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        resized = frame.resize((width, height), Image.Resampling.BICUBIC)
        crops.append(np.asarray(resized.crop((left, top, left + size, top + size)), np.float32) / 255)
    mean, std = (np.array(json.loads(facts[key]), np.float32) for key in ("mean", "std"))
    return np.ascontiguousarray(((np.stack(crops) - mean) / std).transpose(0, 3, 1, 2))


def score(video: Floats, texts: Floats, prompts: int, scale: float) -> NDArray[np.float64]:
    """Return the probabilities of the labels, (labels,): a softmax for each prompt, then their mean.

    `video` has the features of a video, (D,), and `texts` those of all prompts, (prompts × labels, D).
    """
    video = video / np.linalg.norm(video)
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    logits = scale * (texts @ video).astype(np.float64).reshape(prompts, -1)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    mean: NDArray[np.float64] = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    return mean


def answer(
    video: Path | str,
    labels: Sequence[str],
    probabilities: NDArray[np.float64],
    timings_s: Mapping[str, float] = MappingProxyType({}),
) -> str:
    """Return the top labels and the seconds of each stage as JSON, with the keys of the program's own."""
    top = np.argsort(-probabilities, kind="stable")[:TOP]
    predictions = [{"label": labels[index], "probability": float(probabilities[index])} for index in top]
    content = {"video": str(video), "predictions": predictions, "timings_s": dict(timings_s)}
    return json.dumps(content, ensure_ascii=False)


@contextmanager
def timed(timings_s: dict[str, float], stage: str) -> Iterator[None]:
    """Store the seconds that the block takes as `timings_s[stage]`."""
    began = perf_counter()
    yield
    timings_s[stage] = perf_counter() - began


def classify(folder: Path, video: Path, labels: Sequence[str], timings_s: dict[str, float]) -> NDArray[np.float64]:
    """Return the probabilities of the labels, (labels,); `timings_s` receives the seconds of each stage."""
    with timed(timings_s, "sessions"):
        text, image, fusion = (
            onnxruntime.InferenceSession(folder / f"{role}.onnx", providers=["CPUExecutionProvider"])
            for role in ("text", "image", "fusion")
        )
    facts = image.get_modelmeta().custom_metadata_map
    prompts = json.loads(facts["prompts"]) if "prompts" in facts else DEFAULT_PROMPTS
    with timed(timings_s, "text"):
        tokens = default_tokenizer().encode(fill_prompts(prompts, labels))
        texts = np.concatenate([_run(text, tokens[i : i + BATCH]) for i in range(0, len(tokens), BATCH)])
    with timed(timings_s, "decode"):
        frames = read_frames(video, int(facts["frames"]))
    with timed(timings_s, "preprocess"):
        clip = preprocess(frames, facts)
    with timed(timings_s, "image"):
        features = _run(image, clip)
    with timed(timings_s, "fusion"):
        video_features = _run(fusion, features[np.newaxis])[0]
    with timed(timings_s, "score"):
        return score(video_features, texts, len(prompts), float(facts["logit_scale"]))


def _run(session: onnxruntime.InferenceSession, rows: NDArray[Any]) -> Floats:
    features: Floats = session.run(None, {session.get_inputs()[0].name: rows})[0]
    return features


def main() -> None:
    """Print the top labels and the seconds of each stage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference_flow", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with text.onnx, image.onnx, fusion.onnx")
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--text", action="append", default=[], help="a label; repeat it for more labels")
    parser.add_argument("--desc_file", type=Path, help="labels, one a line; after those of --text")
    options = parser.parse_args()
    labels = [*options.text, *(read_labels(options.desc_file) if options.desc_file else [])]
    timings_s: dict[str, float] = {}
    probabilities = classify(options.model, options.video, labels, timings_s)
    print(answer(options.video, labels, probabilities, timings_s))


if __name__ == "__main__":
    main()
