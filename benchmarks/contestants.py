"""The contestants of each stage: the one list that the cases, the workers and the page of results share.

Nothing large is imported, as the process that starts and times the others imports this module; workers import what
`make` names.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.inputs import HEIGHT, WIDTH

THREADS = 2
VIDEO_LENGTHS_S = {"10 s": 10, "10 min": 600, "2 h": 7200}
GPU_BATCHES = (1, 8, 32, 128)
# Of ten seconds of film: frames that are looked at, and windows.
FILM_FRAMES, FILM_WINDOWS = 20, 5

OPENVINO_DEFAULT = "OpenVINO, its default"
PROGRAM, PROGRAM_INT8 = "program, fp32", "program, int8"
PLAIN, PLAIN_INT8 = "plain onnxruntime, fp32", "plain onnxruntime, int8"
YARDSTICK = "yardstick"
EXACT_FRAMES, KEYFRAMES = "action_clip", "keyframes"
SCORE, SCORE_AVERAGED = "score 10,000 labels × 16 prompts", "score 10,000 labels, --average embeddings"
ON_GPU, PYTORCH_ON_GPU = "program, clips at once: {}", "PyTorch fp16 eager, clips at once: {}"
DECODING, PREPROCESSING = "decoding of a clip, alone", "preprocessing of a clip, alone"
GRAPHS, GRAPHS_INT8 = "graphs on a clip, alone", "graphs on a clip, int8, alone"
DECODING_FILM, PREPROCESSING_FILM = "decoding of ten seconds, alone", "preprocessing of ten seconds, alone"
GRAPHS_FILM = "graphs on ten seconds, alone"
READ_FEATURES, PREPROCESS = "400 labels × 16 prompts out of the label bank", "eight 1080p frames to a clip tensor"


@dataclass(frozen=True)
class Contestant:
    """A program that is measured at a stage, in turns with others, each in a warm process of its own."""

    name: str
    make: str
    """`module:function` of benchmarks/; called with the inputs and `arguments`, it returns the function to be timed."""
    arguments: tuple[Any, ...] = ()
    is_exact: bool = True
    """Whether its answer must be that of the stage's first contestant."""

    def load(self) -> Any:
        """Return the function that `make` names. Raises ImportError where a package that it needs is not installed."""
        module, _, function = self.make.partition(":")
        return getattr(import_module(f"benchmarks.{module}"), function)


PEERS: tuple[Contestant, ...] = (
    Contestant("transformers", "peers:Transformers"),
    Contestant("open_clip", "peers:OpenClip"),
    Contestant("OpenVINO, f32", "peers:OpenVino", ({"INFERENCE_PRECISION_HINT": "f32"},)),
    Contestant(OPENVINO_DEFAULT, "peers:OpenVino", ({},), is_exact=False),
)
"""Other programs for the same task; `make` names a class of benchmarks.peers."""


def _peers(make: str) -> tuple[Contestant, ...]:
    return tuple(Contestant(peer.name, make, (peer.name,), peer.is_exact) for peer in PEERS)


STAGES: dict[str, tuple[Contestant, ...]] = {
    "clip": (
        Contestant(PROGRAM, "work:program_clip", ("fp32",)),
        Contestant(PROGRAM_INT8, "work:program_clip", ("int8",), is_exact=False),
        Contestant(PLAIN, "work:plain_clip", ("fp32",)),
        Contestant(PLAIN_INT8, "work:plain_clip", ("int8",), is_exact=False),
        *_peers("work:peer_clip"),
        Contestant("sgemm of numpy, the graphs' products", "work:numpy_products"),
        Contestant("sgemm of PyTorch, the graphs' products", "work:torch_products"),
        Contestant("sgemm of numpy, 2048 wide", "work:numpy_products", (True,)),
        Contestant("sgemm of PyTorch, 2048 wide", "work:torch_products", (True,)),
    ),
    "text": (
        Contestant(YARDSTICK, "work:plain_text"),
        Contestant(PROGRAM, "work:program_text", ("fp32",)),
        Contestant(PROGRAM_INT8, "work:program_text", ("int8",), is_exact=False),
        *_peers("work:peer_text"),
    ),
    **{
        f"video of {length}": tuple(
            Contestant(name, "work:read_video", (length, reader), name != KEYFRAMES)
            for name, reader in (
                (EXACT_FRAMES, "exact_frames"),
                ("torchcodec", "torchcodec"),
                ("decord", "decord"),
                (KEYFRAMES, "keyframes"),
            )
        )
        for length in VIDEO_LENGTHS_S
    },
    "gpu": tuple(
        Contestant(name.format(count), make, (count,))
        for count in GPU_BATCHES
        for name, make in ((ON_GPU, "gpu:program"), (PYTORCH_ON_GPU, "gpu:pytorch"))
    ),
    "small": (
        Contestant(SCORE, "work:many_labels", (16,), is_exact=False),
        Contestant(SCORE_AVERAGED, "work:many_labels", (1,), is_exact=False),
        Contestant(READ_FEATURES, "work:known_labels", is_exact=False),
        Contestant(PREPROCESS, "work:preprocess", (1920, 1080), is_exact=False),
    ),
}

ALONE: tuple[Contestant, ...] = (
    Contestant(DECODING, "work:decode_clips"),
    Contestant(PREPROCESSING, "work:preprocess", (WIDTH, HEIGHT)),
    Contestant(GRAPHS, "work:program_clip", ("fp32", 1)),
    Contestant(GRAPHS_INT8, "work:program_clip", ("int8", 1)),
)
"""What has to be done for each of many videos, with one thread; benchmarks.alone measures the processor's time."""

FILM_ALONE: tuple[Contestant, ...] = (
    Contestant(DECODING_FILM, "work:decode_film"),
    Contestant(PREPROCESSING_FILM, "work:preprocess", (1920, 1080, FILM_FRAMES)),
    Contestant(GRAPHS_FILM, "work:film_graphs"),
)
"""The same for ten seconds of a long video in windows."""

SCRIPTS: dict[str, tuple[str, str]] = {
    f"script, {reader} and {peer}": (reader, peer)
    for reader in ("torchcodec", "decord")
    for peer in ("transformers", "open_clip")
}
"""By name of a script for many videos, its reader, a function of benchmarks.video, and its CLIP, one of PEERS."""


def find(contestants: tuple[Contestant, ...], name: str) -> Contestant:
    """Return the contestant of that name. Raises KeyError where there is none."""
    return {contestant.name: contestant for contestant in contestants}[name]
