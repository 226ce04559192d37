"""Live streams on this machine: servers of Debian's packages, in processes of their own."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

FFMPEG = which("ffmpeg")
RTSP_SERVER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
server = GstRtspServer.RTSPServer(service=sys.argv[1], address="127.0.0.1")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_shared(True)
factory.set_launch("( videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=96,framerate=10/1 "
                   "! x264enc tune=zerolatency key-int-max=5 ! rtph264pay name=pay0 )")
if len(sys.argv) > 2:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("user", sys.argv[2]), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody has."""
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Kill the process at the end."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def rtsp_server(port: int, *password: str) -> Iterator["subprocess.Popen[str]"]:
    """GStreamer's RTSP server with a moving ball at /live; `password` is that of the user "user"."""
    python = "/usr/bin/python3"
    command = [python, "-c", RTSP_SERVER, str(port), *password]
    if not Path(python).exists():
        pytest.skip("there is no Debian with GStreamer's RTSP server")
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            pytest.skip("GStreamer's RTSP server is not installed (gir1.2-gst-rtsp-server-1.0)")
        yield process


@contextmanager
def ffmpeg(*arguments: str, is_live: bool = True) -> Iterator["subprocess.Popen[str]"]:
    """The program ffmpeg, which sends a test picture, in real time where it is live, as the arguments say."""
    if FFMPEG is None:
        pytest.skip("the program ffmpeg is not installed")
    source = [*["-re"] * is_live, "-f", "lavfi", "-i", "testsrc2=size=160x96:rate=10"]
    command = [FFMPEG, "-v", "error", "-nostdin", *source, *arguments]
    with ended(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr, text=True)) as process:
        yield process


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "5", "-pix_fmt", "yuv420p")


def mpegts_over_udp(port: int) -> tuple[str, ...]:
    """The arguments for MPEG-TS over UDP."""
    return (*H264, "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316")


def mpegts_over_http(port: int) -> tuple[str, ...]:
    """The arguments for MPEG-TS over HTTP, to the first one that asks."""
    return (*H264, "-f", "mpegts", "-listen", "1", f"http://127.0.0.1:{port}/live.ts")


def mjpeg_over_http(port: int) -> tuple[str, ...]:
    """The arguments for JPEGs in a multipart answer, as cameras send them, to the first one that asks."""
    kind = ("-content_type", "multipart/x-mixed-replace;boundary=ffmpeg")
    return ("-c:v", "mjpeg", "-f", "mpjpeg", *kind, "-listen", "1", f"http://127.0.0.1:{port}/camera")


def flv_over_rtmp(port: int) -> tuple[str, ...]:
    """The arguments for an RTMP server, for the first one that asks; with sound, which FFmpeg else expects for 5 s."""
    return (
        "-re",
        "-f",
        "lavfi",
        "-i",
        "sine",
        *H264,
        "-c:a",
        "aac",
        "-f",
        "flv",
        "-listen",
        "1",
        f"rtmp://127.0.0.1:{port}/live/camera",
    )


def hls(folder: Path) -> tuple[str, ...]:
    """The arguments for a playlist of the last segments, of half a second each, in a folder."""
    return (*H264, "-f", "hls", "-hls_time", "0.5", "-hls_list_size", "8", "-hls_flags", "delete_segments",
            str(folder / "live.m3u8"))  # fmt: skip
