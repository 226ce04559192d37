"""TimeSformer: a video in, probabilities of the classes of Kinetics-400 out, or of those of another checkpoint."""

import os

from action_clip.models.classmap import ClassMap
from action_clip.models.closed_set import ClosedSetModel
from action_clip.models.model_graphs import FoundModel

DEFAULT_MODEL = "timesformer_k400_8x224"


class TimeSformer(ClosedSetModel):
    """The closed-set model of the catalog, or another one: `TimeSformer().classify("video.mp4")`."""

    def __init__(
        self,
        model: str | os.PathLike[str] | FoundModel = DEFAULT_MODEL,
        *,
        device: str = "auto",
        threads: int | None = None,
        classmap: ClassMap | None = None,
        cache: bool = True,
        prepack: bool = True,
    ) -> None:
        """Choose the model and how it runs: arguments and errors are those of ClosedSetModel."""
        super().__init__(model, device=device, threads=threads, classmap=classmap, cache=cache, prepack=prepack)
