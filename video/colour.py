"""High dynamic range to what a plain screen shows: HLG and PQ (BT.2100) to BT.709.

White is 100 cd/m², as in FFmpeg's filters. What is brighter is brought below it with the curve of BT.2390, from the
brightest that the frame itself has, as players do: a dim frame is left as it is.
"""

from functools import cache, lru_cache

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray

_WHITE = 100.0
"""Of the screen, in cd/m²."""
_SCREEN_GAMMA = 2.4  # BT.1886
_MOST = 10000.0
"""What PQ can say, in cd/m²: the unit of light here."""
_HLG_PEAK = 1000.0
"""Of the screen that HLG is defined on, in cd/m²."""
_HLG_GAMMA = 1.2  # of that screen
_BRIGHTEST = 99.9
"""Percent of the pixels that decide what the brightest is: not some stray ones."""
_SAMPLES = 2**16
_STEP = 64  # levels in which the brightest is told: the table of one frame serves for the next
_TOP = 65535
_ROWS = 16

_LUMINANCE = (0.2627, 0.6780, 0.0593)
_TO_BT709 = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
"""Linear RGB of BT.2020's primaries to that of BT.709's (BT.2407)."""
_AS_IT_IS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

Numbers = NDArray[np.float64]
Light = NDArray[np.float32]


def is_hdr(frame: VideoFrame) -> bool:
    """Whether a frame says that it is HLG or PQ."""
    return frame.color_trc in (ColorTrc.ARIB_STD_B67, ColorTrc.SMPTE2084)


def to_sdr(pixels: NDArray[np.uint16], frame: VideoFrame) -> NDArray[np.uint8]:
    """Return the pixels of an HLG or PQ frame, (H, W, 3 or 4) of RGB and alpha in 16 bits, as BT.709 in 8 bits."""
    light_of = _pq if frame.color_trc == ColorTrc.SMPTE2084 else _hlg
    primaries = _AS_IT_IS if frame.color_primaries == ColorPrimaries.BT709 else _TO_BT709
    apart = max(1, int((pixels.shape[0] * pixels.shape[1] / _SAMPLES) ** 0.5))
    shown = _shown(_brightest(light_of(pixels[::apart, ::apart])))
    sdr = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), _ROWS):  # a few rows at a time, which stay in the processor's cache
        rows, out = pixels[top : top + _ROWS], sdr[top : top + _ROWS]
        light = light_of(rows)
        for number, weights in enumerate(primaries):
            out[..., number] = np.take(shown, _level(_mix(light, weights)))
        out[..., 3:] = rows[..., 3:] >> 8
    return sdr


def _pq(pixels: NDArray[np.uint16]) -> list[Light]:
    """Return the light of each colour on a screen."""
    return [np.take(_pq_table(), pixels[..., colour]) for colour in range(3)]


def _hlg(pixels: NDArray[np.uint16]) -> list[Light]:
    """The same for HLG, whose screen brightens each pixel by its luminance."""
    scene = [np.take(_scene_table(), pixels[..., colour]) for colour in range(3)]
    gain = np.take(_gain_table(), _level(_mix(scene, _LUMINANCE)))
    return [colour * gain for colour in scene]


def _mix(light: list[Light], weights: tuple[float, float, float]) -> Light:
    # By hand: the same on every processor, and in this thread.
    mixed: Light = light[0] * weights[0]
    mixed += light[1] * weights[1]
    mixed += light[2] * weights[2]
    return mixed


def _level(light: Light) -> NDArray[np.uint16]:
    """The nearest of 65,536 levels from 0 to 1, which lie closer where it is dark."""
    return (np.sqrt(np.clip(light, 0, 1)) * _TOP + 0.5).astype(np.uint16)


def _brightest(light: list[Light]) -> int:
    """The level that hardly any colour of a picture is above, rounded up to a step."""
    level = np.percentile(_level(np.max(light, axis=0)), _BRIGHTEST, method="higher")
    return min(-(-int(level) // _STEP) * _STEP, _TOP)


@lru_cache(maxsize=16)
def _shown(brightest: int) -> NDArray[np.uint8]:
    """The 8 bits of a plain screen for each level of light, where there is none above the brightest."""
    light = _MOST * _signals() ** 2
    shown = np.clip(_below_white(light, light[brightest]) / _WHITE, 0, 1)
    return np.rint(255 * shown ** (1 / _SCREEN_GAMMA)).astype(np.uint8)


def _signals() -> Numbers:
    return np.arange(_TOP + 1) / _TOP


@cache
def _pq_table() -> Light:
    return (_pq_light(_signals()) / _MOST).astype(np.float32)


@cache
def _scene_table() -> Light:
    """The light of the scene, 1 for the brightest, that each signal of HLG stands for (BT.2100, table 5)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    signal = _signals()
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


@cache
def _gain_table() -> Light:
    """The light on the screen, for that of the scene, at each level of luminance."""
    gain: Light = (_HLG_PEAK / _MOST * _signals() ** (2 * (_HLG_GAMMA - 1))).astype(np.float32)
    return gain


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # BT.2100, table 4


def _pq_light(signal: Numbers) -> Numbers:
    root = signal ** (1 / _M2)
    light: Numbers = 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
    return light


def _pq_signal(light: Numbers | float) -> Numbers:
    power = (np.asarray(light) / 10000) ** _M1
    signal: Numbers = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return signal


def _below_white(light: Numbers, peak: float) -> Numbers:
    """Bring light of up to `peak` below white, and leave what is dim enough as it is (BT.2390, 5.4.1)."""
    if peak <= _WHITE:
        return np.minimum(light, _WHITE)
    top = _pq_signal(peak)
    most = _pq_signal(_WHITE) / top
    knee = 1.5 * most - 0.5
    signal = np.minimum(_pq_signal(light) / top, 1)
    t = np.maximum(signal - knee, 0) / (1 - knee)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return np.minimum(_pq_light(np.where(signal < knee, signal, bent) * top), _WHITE)
