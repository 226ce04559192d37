"""Tone mapping of high to standard dynamic range: HLG and PQ (BT.2100) to BT.709.

White is 100 cd/m², as in FFmpeg's filters. Brighter light is compressed below white with the curve of BT.2390. The
curve's peak is the brightest light of the frame itself, as in players, so a frame without light above white is not
compressed.
"""

from functools import cache, lru_cache

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray

_WHITE = 100.0
"""Luminance of the screen's white, in cd/m²."""
_SCREEN_GAMMA = 2.4  # BT.1886
_MOST = 10000.0
"""Highest luminance of PQ, in cd/m²: the unit of screen light here."""
_HLG_PEAK = 1000.0
"""Peak luminance of the screen that HLG is defined for, in cd/m²."""
_HLG_GAMMA = 1.2  # system gamma of that screen
_BRIGHTEST = 99.9
"""Percentile of the pixels that is taken as the brightest, so that a few stray pixels do not count."""
_SAMPLES = 2**16  # pixels, about, of which that is computed
_STEP = 64  # levels to which the brightest is rounded up, so that similar frames share a table
_TOP = 65535
_ROWS = 16

_LUMINANCE = (0.2627, 0.6780, 0.0593)
_TO_BT709 = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
"""Matrix from linear RGB with BT.2020's primaries to linear RGB with BT.709's (BT.2407)."""
_AS_IT_IS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

Numbers = NDArray[np.float64]
Light = NDArray[np.float32]


def is_hdr(frame: VideoFrame) -> bool:
    """Return whether the frame's transfer characteristics are those of HLG or PQ."""
    return frame.color_trc in (ColorTrc.ARIB_STD_B67, ColorTrc.SMPTE2084)


def to_sdr(pixels: NDArray[np.uint16], frame: VideoFrame) -> NDArray[np.uint8]:
    """Return the pixels of an HLG or PQ frame in BT.709, with 8 bits for each value.

    Args:
        pixels: (H, W, 3) RGB or (H, W, 4) RGBA, with 16 bits for each value.
        frame: the frame that they come from, which states its transfer characteristics and primaries.

    Returns:
        An array of the same shape; alpha keeps its upper 8 bits.
    """
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
    """Return the screen light of red, green and blue, each (H, W), for a PQ signal."""
    return [np.take(_pq_table(), pixels[..., colour]) for colour in range(3)]


def _hlg(pixels: NDArray[np.uint16]) -> list[Light]:
    """Return the screen light of red, green and blue for an HLG signal: scene light times a gain by its luminance."""
    scene = [np.take(_scene_table(), pixels[..., colour]) for colour in range(3)]
    gain = np.take(_gain_table(), _level(_mix(scene, _LUMINANCE)))
    return [colour * gain for colour in scene]


def _mix(light: list[Light], weights: tuple[float, float, float]) -> Light:
    # No matrix product: its rounding depends on the processor, and it starts threads.
    mixed: Light = light[0] * weights[0]
    mixed += light[1] * weights[1]
    mixed += light[2] * weights[2]
    return mixed


def _level(light: Light) -> NDArray[np.uint16]:
    """Return the nearest of 65,536 levels for light from 0 to 1; level n is (n / 65535)², finer in the dark."""
    return (np.sqrt(np.clip(light, 0, 1)) * _TOP + 0.5).astype(np.uint16)


def _brightest(light: list[Light]) -> int:
    """Return the level that `_BRIGHTEST` percent of the pixels do not exceed in any colour, rounded up to `_STEP`."""
    level = np.percentile(_level(np.max(light, axis=0)), _BRIGHTEST, method="higher")
    return min(-(-int(level) // _STEP) * _STEP, _TOP)


@lru_cache(maxsize=16)
def _shown(brightest: int) -> NDArray[np.uint8]:
    """Return the 8-bit value of BT.709 for each level of light, in a frame whose brightest level is `brightest`."""
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
    """Return the scene light, from 0 to 1, of each 16-bit HLG signal (BT.2100, table 5)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    signal = _signals()
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


@cache
def _gain_table() -> Light:
    """Return the ratio of screen light to scene light for each level of scene luminance."""
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
    """Return light of up to `peak`, in cd/m², compressed below white; unchanged below the knee (BT.2390, 5.4.1)."""
    if peak <= _WHITE:
        return np.minimum(light, _WHITE)
    top = _pq_signal(peak)
    most = _pq_signal(_WHITE) / top
    knee = 1.5 * most - 0.5
    signal = np.minimum(_pq_signal(light) / top, 1)
    t = np.maximum(signal - knee, 0) / (1 - knee)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return np.minimum(_pq_light(np.where(signal < knee, signal, bent) * top), _WHITE)
