"""How long training a head takes, in processes of their own: `python -m benchmarks.heads`.

1,000 clips of 20 classes whose features are kept; and 100 clips of 2 classes, as in Lightning Flash's example, from
files to the model, beside what encoding them alone takes.
"""

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import av
import numpy as np

from action_clip.system.files import draft_folder

KEPT, KEPT_TARGET_S = (1000, 20), 10.0
FILES, BEYOND_ENCODING_S = (100, 2), 5.0
_FRAMES, _RATE = 24, 12


def make_clips(folder: Path, count: int, classes: int, width: int, height: int) -> None:
    """Write so many clips in a folder for each class: noise around a colour of the class, another one in each clip."""
    random = np.random.default_rng(0)
    colours = random.integers(40, 216, (classes, 3))
    for number in range(count):
        label = number % classes
        path = folder / f"class {label}" / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = colours[label] + random.integers(-40, 40, 3)
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=_RATE, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in range(_FRAMES):
                pixels = np.clip(colour + random.integers(-60, 60, (height // 8, width // 8, 3)), 0, 255)
                picture = pixels.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def seconds(home: Path, *arguments: str) -> float:
    """Run the command with this home, and return how long it took. Raises CalledProcessError where it failed."""
    began = perf_counter()
    subprocess.run(
        [sys.executable, "-m", "action_clip", *arguments],
        env=os.environ | {"ACTION_CLIP_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return perf_counter() - began


def main() -> int:
    """Measure, print what was found, and return 0 where it is within the targets, else 1."""
    with draft_folder() as folder:
        make_clips(folder / "many", *KEPT, 64, 48)
        make_clips(folder / "few", *FILES, 320, 240)
        train = ("train", "--model", "nano", "--quiet", "--overwrite", "--out", str(folder / "model"), "--data")
        home = folder / "home"
        encode = ("--model", "nano", "--quiet", "--format", "json", "--output", str(folder / "answers"), "--video")
        seconds(home, *encode, str(folder / "few" / "class 0" / "0.mp4"))  # makes the sessions' files
        (home / "video_bank-1.sqlite3").unlink(missing_ok=True)
        encoding = seconds(home, *encode, str(folder / "few"))
        (home / "video_bank-1.sqlite3").unlink(missing_ok=True)
        whole = seconds(home, *train, str(folder / "few"))
        print(f"{FILES[0]} clips, {FILES[1]} classes: {whole:.1f} s, encoding them alone {encoding:.1f} s", flush=True)
        first = seconds(home, *train, str(folder / "many"))
        kept = seconds(home, *train, str(folder / "many"))
        print(f"{KEPT[0]} clips, {KEPT[1]} classes: {first:.1f} s, {kept:.1f} s where their features are kept")
    return int(whole > encoding + BEYOND_ENCODING_S or kept > KEPT_TARGET_S)


if __name__ == "__main__":
    sys.exit(main())
