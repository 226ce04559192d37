"""Frames of clips for a page: those that a model looks at, small."""

from collections.abc import Sequence

from action_clip.data.dataset import Example
from action_clip.data.encoding import video_input
from action_clip.models.engine import Limits, Ready, Stages, run
from action_clip.models.prediction import Failure
from action_clip.output.report.page import picture
from action_clip.system.cores import usable_cores
from action_clip.video.inputs import read_frames
from action_clip.video.reader import VideoReader
from action_clip.video.sampling import Sampler
from action_clip.video.thumbnails import thumbnail

MOST_FRAMES = 8
"""Most frames of a clip: of more that were looked at, evenly spaced ones."""

Pictures = tuple[bytes, ...]


def frames_of(examples: Sequence[Example], sampler: Sampler) -> list[Pictures]:
    """Return some frames of each clip, as JPEG files; none of one that cannot be read.

    Args:
        examples: the clips.
        sampler: the frames that are looked at, of which MOST_FRAMES are taken.
    """
    readers: set[VideoReader] = set()

    def some(total: int) -> list[int]:
        indices = sampler(total)
        count = min(MOST_FRAMES, len(indices))
        return [indices[place * len(indices) // count] for place in range(count)]

    def prepare(example: Example) -> Ready[None] | Pictures:
        clip = read_frames(video_input(example), some, threads=1, readers=readers, shrink=thumbnail)
        return tuple(map(picture, clip.frames))

    def close() -> None:
        for reader in list(readers):
            reader.close()

    stages: Stages[Example, None, Pictures] = Stages(prepare, lambda _: [], close, Limits(usable_cores(), 1, 1))
    return [() if isinstance(result, Failure) else result for _, result in run(examples, stages, ordered=True)]
