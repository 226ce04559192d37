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
_HLG_PEAK = 1000.0
"""Of the screen that HLG is defined on, in cd/m²."""
_HLG_GAMMA = 1.2  # of that screen
_SCREEN_GAMMA = 2.4  # BT.1886
_BRIGHTEST = 99.9
"""Percent of the pixels that decide what the brightest is: not some stray ones."""
_SAMPLES = 2**16
_STEP = 256  # in which the brightest is told, of 65,536: the table of one frame serves for the next
_TOP = 65535
_ROWS = 16

_LUMINANCE = (0.2627, 0.6780, 0.0593)
_TO_BT709 = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
"""Linear RGB of BT.2020's primaries to that of BT.709's (BT.2087)."""
_AS_IT_IS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

Numbers = NDArray[np.float64]
Table = NDArray[np.float32]
"""A value for each of the 65,536 levels of a signal, or of light."""


def is_hdr(frame: VideoFrame) -> bool:
    """Whether a frame says that it is HLG or PQ."""
    return frame.color_trc in (ColorTrc.ARIB_STD_B67, ColorTrc.SMPTE2084)


def to_sdr(pixels: NDArray[np.uint16], frame: VideoFrame) -> NDArray[np.uint8]:
    """Return the pixels of an HLG or PQ frame, (H, W, 3 or 4) of RGB and alpha in 16 bits, as BT.709 in 8 bits."""
    is_pq = frame.color_trc == ColorTrc.SMPTE2084
    shown = _shown(is_pq, _brightest(pixels[..., :3]))
    primaries = _AS_IT_IS if frame.color_primaries == ColorPrimaries.BT709 else _TO_BT709
    encoded = _encoded()
    sdr = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), _ROWS):  # a few rows at a time, which stay in the processor's cache
        rows, out = pixels[top : top + _ROWS], sdr[top : top + _ROWS]
        light = [np.take(shown, rows[..., colour]) for colour in range(3)]
        if not is_pq:
            scene = [np.take(_scene(), rows[..., colour]) for colour in range(3)]
            gain = np.take(_gain(), _level(_mix(scene, _LUMINANCE)))
            light = [colour * gain for colour in light]
        for number, weights in enumerate(primaries):
            out[..., number] = np.take(encoded, _level(_mix(light, weights)))
        out[..., 3:] = rows[..., 3:] >> 8
    return sdr


def _mix(planes: list[Table], weights: tuple[float, float, float]) -> Table:
    # Sums by hand: the same on every processor, and in this thread.
    mixed: Table = planes[0] * weights[0]
    mixed += planes[1] * weights[1]
    mixed += planes[2] * weights[2]
    return mixed


def _level(light: Table) -> NDArray[np.uint16]:
    """The nearest of 65,536 levels from 0 to 1."""
    return (np.clip(light, 0, 1) * _TOP + 0.5).astype(np.uint16)


def _brightest(pixels: NDArray[np.uint16]) -> int:
    """The signal that hardly any colour of a picture is above, rounded up to a step."""
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / _SAMPLES) ** 0.5))
    signal = np.percentile(pixels[::step, ::step].max(axis=2), _BRIGHTEST, method="higher")
    return min(-(-int(signal) // _STEP) * _STEP, _TOP)


def _levels() -> Numbers:
    return np.arange(_TOP + 1) / _TOP


@lru_cache(maxsize=16)
def _shown(is_pq: bool, brightest: int) -> Table:
    """What light of the plain screen, of 1 for white, each signal becomes; of HLG, what is left for `_gain` to do.

    HLG's screen brightens a colour by the luminance of its pixel: here by its own, as if it were grey.
    """
    if is_pq:
        light = _pq_light(_levels())
        return _float32(_below_white(light, light[brightest]) / _WHITE)
    scene = _scene().astype(np.float64)
    gain = scene ** (_HLG_GAMMA - 1)
    light = _HLG_PEAK * scene * gain
    return _float32(_below_white(light, light[brightest]) / _WHITE / np.maximum(gain, 1e-3))


@cache
def _scene() -> Table:
    """What light of the scene, of 1 for the brightest, each signal of HLG stands for (BT.2100, table 5)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    signal = _levels()
    return _float32(np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12))


@cache
def _gain() -> Table:
    """How much HLG's screen brightens pixels of each luminance."""
    return _float32(_levels() ** (_HLG_GAMMA - 1))


@cache
def _encoded() -> NDArray[np.uint8]:
    """The 8 bits for each level of light of a plain screen."""
    return np.rint(255 * _levels() ** (1 / _SCREEN_GAMMA)).astype(np.uint8)


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


def _float32(values: Numbers) -> Table:
    return values.astype(np.float32)
