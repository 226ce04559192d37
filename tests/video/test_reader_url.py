"""Videos at http addresses, served by well and badly behaved servers on this machine."""

import re
import ssl
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import av
import numpy as np
import pytest
import trustme
from make_videos import numbered, numbers_in, write_numbered, write_video
from servers import Answer, beside, files, ranges, send, serving, whole
from small_models import random_model, save_model

import action_clip.video.address
import action_clip.video.packets
from action_clip import ActionClip
from action_clip.errors import ActionClipError
from action_clip.video.reader import read_clip
from action_clip.video.sampling import make_sampler

eight = make_sampler("uniform", 8, 0)


@pytest.fixture
def clip_bytes(tmp_path: Path) -> bytes:
    options = {"g": "20", "bf": "2"}
    return write_numbered(
        tmp_path / "clip.mp4", 100, options=options, container_options={"movflags": "faststart"}
    ).read_bytes()


@pytest.fixture
def long_bytes(tmp_path: Path) -> bytes:
    """A video of some hundred kilobytes, with its index at the end."""
    noise = np.random.default_rng(0).integers(0, 30, (100, 96, 160, 3), np.uint8)
    pictures = [numbered(number) + noise[number] for number in range(100)]
    options = {"g": "20", "crf": "1", "preset": "ultrafast"}
    content = write_video(tmp_path / "long.mp4", pictures, options=options).read_bytes()
    assert len(content) > 2 * action_clip.video.address.SKIPPED
    return content


@pytest.fixture
def secure(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """What makes a server speak https, and the file with the certificate to trust it by."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    return tls, str(tmp_path / "authority.pem")


@pytest.mark.parametrize("kept_bytes", [2**30, 0])
@pytest.mark.parametrize("server", [whole, ranges])
def test_a_video_at_an_address(
    tmp_path: Path,
    clip_bytes: bytes,
    server: Callable[[bytes], Answer],
    kept_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(action_clip.video.packets, "CACHED_URL_BYTES", kept_bytes)
    with serving(server(clip_bytes)) as (address, asked):
        clip = read_clip(address, eight)
    assert numbers_in(clip.frames) == list(clip.indices) == [5, 18, 30, 43, 55, 68, 80, 93]
    assert clip.total_frames == 100
    assert np.array_equal(clip.frames, read_clip(tmp_path / "clip.mp4", eight).frames)
    if kept_bytes:
        assert len(asked) == 1


def test_a_server_that_cannot_seek(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 30, (200, 96, 160, 3), np.uint8)
    pictures = [numbered(number) + noise[number] for number in range(200)]
    options = {"g": "50", "crf": "1", "preset": "ultrafast"}
    path = write_video(tmp_path / "clip.mkv", pictures, options=options)
    assert path.stat().st_size > 2**21
    monkeypatch.setattr(action_clip.video.packets, "CACHED_URL_BYTES", 0)
    with serving(whole(path.read_bytes())) as (address, asked):
        clip = read_clip(address, eight)
    assert numbers_in(clip.frames) == list(clip.indices) == [12, 37, 62, 87, 112, 137, 162, 187]
    assert len(asked) == 1  # what has come is kept


def test_https_needs_a_certificate_that_is_trusted(
    secure: tuple[ssl.SSLContext, str], clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = secure
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with serving(whole(clip_bytes), tls) as (address, asked):
        with pytest.raises(ActionClipError, match="could not be read"):
            read_clip(address, eight)
        assert asked == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
        assert read_clip(address, eight).total_frames == 100


def test_https_never_becomes_http(
    secure: tuple[ssl.SSLContext, str], clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = secure
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
    with serving(whole(clip_bytes)) as (plain, asked), serving(whole(clip_bytes), tls) as (other, _):
        with serving(lambda h: send(h, 302, b"", Location=plain.replace("é ü", "")), tls) as (address, _):
            with pytest.raises(ActionClipError, match=r"redirects to http://127.* which is not https"):
                read_clip(address, eight)
            assert asked == []
        with serving(lambda h: send(h, 302, b"", Location=other.replace("é ü", "")), tls) as (address, _):
            assert read_clip(address, eight).total_frames == 100


def test_a_redirect_that_comes_late_is_not_followed(
    secure: tuple[ssl.SSLContext, str], long_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = secure
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
    with serving(ranges(long_bytes)) as (plain, asked):
        answers: list[Answer] = [
            ranges(long_bytes),
            lambda h: send(h, 302, b"", Location=plain.replace("é ü", "")),
        ]
        with (
            serving(lambda h: answers.pop(0)(h), tls) as (address, _),
            pytest.raises(ActionClipError, match=r"could not be read .*redirects to http:.* which is not https"),
        ):
            read_clip(address, eight)
        assert asked == []


def test_offline_means_no_connection(clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    with serving(whole(clip_bytes)) as (address, asked):
        with pytest.raises(ActionClipError, match="is an address, and ACTION_CLIP_OFFLINE forbids connecting"):
            read_clip(address, eight)
        assert asked == []


def test_an_address_that_is_not_found() -> None:
    with (
        serving(lambda handler: send(handler, 404, b"")) as (address, _),
        pytest.raises(ActionClipError, match=r"^the video at http.*/my%20clip.mp4\?x=é ü could not .*404"),
    ):
        read_clip(address, eight)


def test_a_server_that_is_not_there() -> None:
    with serving(lambda handler: None) as (address, _):
        pass
    with pytest.raises(ActionClipError, match=r"could not be read \(the server cannot be reached\); check the address"):
        read_clip(address, eight)


@pytest.mark.parametrize("address", ["http://[", "http://", "https:///x.mp4", "http://127.0.0.1:99999/", "http://a b/"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ActionClipError, match=r"^the video at http.* could not be read"):
        read_clip(address, eight)


@pytest.mark.parametrize("sent", [0, 2000])
def test_a_server_that_stalls(clip_bytes: bytes, sent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.video.address, "URL_TIMEOUT_S", 0.3)
    done = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if sent:
            send(handler, 200, clip_bytes[:sent], Content_Length=str(len(clip_bytes)))
            handler.wfile.flush()
        done.wait(20)

    with serving(answer) as (address, _):
        with pytest.raises(ActionClipError, match="the server does not answer in time"):
            read_clip(address, eight)
        done.set()


def test_a_connection_that_breaks(clip_bytes: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, clip_bytes[: len(clip_bytes) * 3 // 4], Content_Length=str(len(clip_bytes)))
        handler.close_connection = True

    with serving(answer) as (address, _), pytest.raises(ActionClipError, match="the connection was cut"):
        read_clip(address, eight)


def test_a_connection_that_breaks_is_taken_up_again(tmp_path: Path, clip_bytes: bytes) -> None:
    """Where the server knows ranges, as long as something comes each time."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = int(str(handler.headers["Range"])[6:].split("-")[0])
        span = f"bytes {start}-{len(clip_bytes) - 1}/{len(clip_bytes)}"
        piece = clip_bytes[start : start + len(clip_bytes) // 3]
        send(handler, 206, piece, Content_Length=str(len(clip_bytes) - start), Content_Range=span)

    with serving(answer) as (address, asked):
        clip = read_clip(address, eight)
    assert np.array_equal(clip.frames, read_clip(tmp_path / "clip.mp4", eight).frames)
    assert len(asked) == 4


@pytest.mark.parametrize("kind", ["uniform", "keyframes"])
@pytest.mark.parametrize(("server", "most"), [(whole, 1), (ranges, 4)])
def test_an_index_at_the_end(
    tmp_path: Path, long_bytes: bytes, server: Callable[[bytes], Answer], most: int, kind: str
) -> None:
    """What cannot be sought is kept as it comes; where there are ranges, only what is needed is asked for."""
    with serving(server(long_bytes)) as (address, asked):
        clip = read_clip(address, make_sampler(kind, 8, 0))
    expected = read_clip(tmp_path / "long.mp4", make_sampler(kind, 8, 0))
    assert np.array_equal(clip.frames, expected.frames)
    assert clip.indices == expected.indices
    assert len(asked) <= most


@pytest.mark.parametrize("headers", [{}, {"Transfer_Encoding": "chunked"}])
def test_a_video_of_unknown_length(tmp_path: Path, long_bytes: bytes, headers: dict[str, str]) -> None:
    content = b"%x\r\n%s\r\n0\r\n\r\n" % (len(long_bytes), long_bytes) if headers else long_bytes
    with serving(lambda handler: send(handler, 200, content, **headers)) as (address, asked):
        clip = read_clip(address, eight)
    assert np.array_equal(clip.frames, read_clip(tmp_path / "long.mp4", eight).frames)
    assert len(asked) == 1


def raw(head: str, content: bytes) -> Answer:
    """HTTP/1.1 as written, then the connection is closed: in TLS too without a word before."""
    start = f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n{head}\r\n".encode()
    return lambda handler: handler.connection.sendall(start + content)


@pytest.mark.parametrize(
    "head",
    [
        "",
        "Connection: keep-alive\r\n",
        "Accept-Ranges: bytes\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: {}\r\n",
    ],
)
@pytest.mark.parametrize("is_secure", [False, True])
def test_a_server_that_closes_without_saying(
    tmp_path: Path,
    secure: tuple[ssl.SSLContext, str],
    long_bytes: bytes,
    head: str,
    is_secure: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tls, trusted = secure
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
    answer = raw(head.format(len(long_bytes)), long_bytes)
    with serving(answer, tls if is_secure else None) as (address, asked):
        clip = read_clip(address, eight)
    assert np.array_equal(clip.frames, read_clip(tmp_path / "long.mp4", eight).frames)
    assert len(asked) <= 2  # once more where it says that it knows ranges


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("Content-Length: 999999999\r\n", "the connection was cut"),
        ("Transfer-Encoding: chunked\r\n\r\nfffffff", "the connection was cut"),
        ("Content-Length: 1\r\nContent-Length: 2\r\n", "the server does not answer as HTTP servers do"),
    ],
)
@pytest.mark.parametrize("is_secure", [False, True])
def test_bodies_that_are_not_as_the_server_says(
    secure: tuple[ssl.SSLContext, str],
    long_bytes: bytes,
    head: str,
    reason: str,
    is_secure: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tls, trusted = secure
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
    with (
        serving(raw(head, long_bytes), tls if is_secure else None) as (address, _),
        pytest.raises(ActionClipError, match=rf"could not be read \({reason}\); check the address and the connection$"),
    ):
        read_clip(address, eight)


@pytest.mark.parametrize("head", ["", "Content-Length: 0\r\n"])
def test_an_empty_answer(head: str) -> None:
    with (
        serving(raw(head, b"")) as (address, _),
        pytest.raises(ActionClipError, match=r"could not be read \(the server sends nothing\)"),
    ):
        read_clip(address, eight)


def test_what_is_no_http(clip_bytes: bytes) -> None:
    with (
        serving(lambda handler: handler.connection.sendall(clip_bytes)) as (address, _),
        pytest.raises(ActionClipError, match=r"could not be read \(the server does not answer as HTTP servers do\)"),
    ):
        read_clip(address, eight)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts", "clip.avi", "clip.gif", "clip.webm"])
@pytest.mark.parametrize("server", [whole, ranges])
def test_containers(tmp_path: Path, name: str, server: Callable[[bytes], Answer]) -> None:
    how = {"clip.avi": ("mpeg4", "yuv420p"), "clip.gif": ("gif", "rgb8"), "clip.webm": ("libvpx", "yuv420p")}
    codec, pix_fmt = how.get(name, ("libx264", "yuv420p"))
    content = write_numbered(tmp_path / name, 40, codec, pix_fmt=pix_fmt).read_bytes()
    for kind in ("uniform", "keyframes"):
        with serving(server(content)) as (address, asked):
            clip = read_clip(address, make_sampler(kind, 8, 0))
        assert np.array_equal(clip.frames, read_clip(tmp_path / name, make_sampler(kind, 8, 0)).frames)
        assert len(asked) == 1


def test_a_server_that_says_it_knows_ranges_and_does_not(tmp_path: Path, long_bytes: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, long_bytes, Content_Length=str(len(long_bytes)), Accept_Ranges="bytes")

    with serving(answer) as (address, _):
        clip = read_clip(address, eight)
    assert np.array_equal(clip.frames, read_clip(tmp_path / "long.mp4", eight).frames)


@pytest.mark.parametrize("tag", ["ETag", "Last-Modified"])
def test_a_video_that_changes_while_it_is_read(long_bytes: bytes, tag: str) -> None:
    versions = iter("abcdefgh")

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = int(str(handler.headers["Range"])[6:].split("-")[0])
        span = f"bytes {start}-{len(long_bytes) - 1}/{len(long_bytes)}"
        named = {tag: f'"{next(versions)}"', "Content-Range": span}
        send(handler, 206, long_bytes[start:], Content_Length=str(len(long_bytes) - start), **named)

    with (
        serving(answer) as (address, _),
        pytest.raises(ActionClipError, match="sends something else now than at first"),
    ):
        read_clip(address, eight)


@pytest.mark.parametrize(
    ("code", "headers", "reason"),
    [
        (200, {"Content_Encoding": "gzip"}, "the server compresses it"),
        (200, {"Content_Encoding": "aws-chunked, GZIP"}, "the server compresses it"),
        (500, {}, "the server answers 500"),
        *(
            (206, headers, "the server does not send the part that it is asked for")
            for headers in (
                {"Content_Range": "bytes 0-1/" + "9" * 5000},
                {},
                {"Content_Range": "bytes 7-99/100"},
            )
        ),
        (302, {"Location": "file:///etc/passwd"}, "could not be read"),
        (302, {"Location": "http://["}, "could not be read"),
    ],
)
def test_answers_that_are_no_video(clip_bytes: bytes, code: int, headers: dict[str, str], reason: str) -> None:
    with (
        serving(lambda handler: send(handler, code, clip_bytes, **headers)) as (address, asked),
        pytest.raises(ActionClipError, match=f"^the video at http.*{reason}"),
    ):
        read_clip(address, eight)
    assert len(asked) == 1


@pytest.mark.parametrize("encoding", ["", "none", "Identity ", "aws-chunked", "utf-8"])
def test_what_is_called_encoded_and_is_not(tmp_path: Path, clip_bytes: bytes, encoding: str) -> None:
    with serving(lambda handler: send(handler, 200, clip_bytes, Content_Encoding=encoding)) as (address, _):
        clip = read_clip(address, eight)
    assert np.array_equal(clip.frames, read_clip(tmp_path / "clip.mp4", eight).frames)


def test_numbers_of_many_digits_are_no_length(tmp_path: Path, clip_bytes: bytes) -> None:
    with serving(lambda handler: send(handler, 200, clip_bytes, Content_Length="9" * 5000)) as (address, _):
        clip = read_clip(address, eight)
    assert np.array_equal(clip.frames, read_clip(tmp_path / "clip.mp4", eight).frames)


@pytest.mark.parametrize("scheme", ["HTTP", "Http", "hTTp"])
def test_the_case_of_a_scheme(clip_bytes: bytes, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(whole(clip_bytes)) as (address, asked):
        address = scheme + address.removeprefix("http")
        assert read_clip(address, eight).total_frames == 100
        monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
        with pytest.raises(ActionClipError, match="is an address, and ACTION_CLIP_OFFLINE"):
            read_clip(address, eight)
    assert len(asked) == 1


@pytest.mark.parametrize("spaces", [" {}", "{}  ", "\n\t{}\r\n"])
def test_spaces_around_an_address(clip_bytes: bytes, spaces: str, tmp_path: Path) -> None:
    save_model(random_model(1, 8, transformer=False), tmp_path, frames=8)
    with serving(whole(clip_bytes)) as (address, asked):
        assert read_clip(spaces.format(address), eight).total_frames == 100
        prediction = ActionClip(tmp_path, cache=False).classify(spaces.format(address), ["eating"])
    assert prediction.video == address
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("s3://b/clip.mp4", "the address s3://b/clip.mp4 is neither http nor https; give one of these or a file"),
        (" S3://ann:hidden@b ", "the address S3://ann:***@b is neither http nor https; give one of these or a file"),
        ("blob:https://a/1", "the address blob:https://a/1 is neither http nor https; give one of these or a file"),
        ("data:,x", "the address data:,x is neither http nor https; give one of these or a file"),
        (
            "data:video/mp4;base64," + "A" * 80_000,
            f"the address data:video/mp4;base64,{'A' * 18}… is neither http nor https; give one of these or a file",
        ),
        ("file://host/a.mp4", "the address file://host/a.mp4 is neither http nor https; give one of these or a file"),
        ("file://[", "the address file://[ is neither http nor https; give one of these or a file"),
    ],
)  # fmt: skip
def test_addresses_of_other_kinds(address: str, sentence: str) -> None:
    with pytest.raises(ActionClipError) as raised:
        read_clip(address, eight)
    assert str(raised.value) == sentence


def test_the_address_of_a_file_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "été 1.mp4"
    address = path.as_uri()
    assert "%20" in address
    for text in (address, address.replace("file://", "FILE://localhost")):
        with pytest.raises(ActionClipError) as raised:
            read_clip(text, eight)
        assert str(raised.value) == f"the address {text} is neither http nor https; give its path, {path}"


def test_a_file_with_such_a_name_is_one(tmp_path: Path, clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        Path("data:clip.mp4").write_bytes(clip_bytes)
    except OSError:
        pytest.skip("no file can have that name here")
    assert read_clip("data:clip.mp4", eight).total_frames == 100


def never_ending(begin: bytes, drop: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            handler.connection.sendall(begin)
            while True:
                handler.connection.sendall(drop)
                time.sleep(0.02)

    return answer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\nGIF89a", bytes(4096)),
    ],
)
def test_what_never_ends_is_ended(begin: bytes, drop: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_TIMEOUT", "1")
    with (
        serving(never_ending(begin, drop)) as (address, _),
        pytest.raises(ActionClipError, match=r"^the video at .*the server takes longer than 1 s in all"),
    ):
        read_clip(address, make_sampler("keyframes", 8, 0))


def test_a_live_stream_is_ended(segments: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_TIMEOUT", "1")
    with (
        serving(never_ending(b"HTTP/1.1 200 OK\r\n\r\n", segments["one.ts"])) as (address, _),
        pytest.raises(ActionClipError, match=r"^the video at .*the server takes longer than 1 s in all"),
    ):
        read_clip(address, eight)


def test_a_disk_without_room_for_what_cannot_be_sought(long_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.video.address, "IN_MEMORY", 100_000)
    monkeypatch.setattr(action_clip.video.address, "ROOM_STEP", 100_000)
    monkeypatch.setattr(action_clip.video.address, "DISK_MARGIN", 2**60)
    with (
        serving(whole(long_bytes)) as (address, _),
        pytest.raises(ActionClipError, match=r"^the video http.* no room for it among the temporary files: .*TMPDIR$"),
    ):
        read_clip(address, eight)


def test_what_is_read_again_is_asked_for_again_where_it_does_not_fit(
    tmp_path: Path, long_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_clip.video.address, "IN_MEMORY", 100_000)
    monkeypatch.setattr(action_clip.video.packets, "CACHED_URL_BYTES", 0)
    for server in (ranges, whole):
        with serving(server(long_bytes)) as (address, _):
            clip = read_clip(address, eight)
        assert np.array_equal(clip.frames, read_clip(tmp_path / "long.mp4", eight).frames)


@pytest.mark.parametrize("fault", ["missing", "none", "damaged", "redirect", "live", "cut", "gone"])
def test_secrets_are_not_shown(
    tmp_path: Path, clip_bytes: bytes, fault: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answers: dict[str, Answer] = {
        "missing": lambda handler: send(handler, 404, b""),
        "none": whole(b"nothing that could be a video"),
        "damaged": whole(clip_bytes[:1500]),
        "redirect": lambda handler: send(handler, 302, b"", Location=f"ftp{handler.path}&password=hidden"),
        "cut": lambda handler: send(handler, 200, clip_bytes[:1500], Content_Length="9999"),
        "gone": whole(clip_bytes),
        "live": whole(b"#EXTM3U\n#EXTINF:10,\nsegment.ts?token=hidden\n"),
    }
    with serving(answers[fault]) as (address, _):
        address = address.replace("//", "//ann:hidden@", 1).replace("x=", "access_token=hidden&x=")
        if fault == "gone":
            address = re.sub(r":\d+/", ":1/", address)
        with pytest.raises(ActionClipError) as raised:
            read_clip(address, eight)
    lines = traceback.format_exception(raised.value)
    assert "ann:***@" in str(raised.value)
    assert "access_token=***" in str(raised.value)
    assert not [line for line in lines if "hidden" in line and "File" not in line]
    assert capfd.readouterr() == ("", "")


def test_a_name_and_password_are_sent(clip_bytes: bytes) -> None:
    seen: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers["Authorization"])
        whole(clip_bytes)(handler)

    with serving(answer) as (address, _):
        read_clip(address.replace("//127", "//ann:pass@127"), eight)
    assert seen == ["Basic YW5uOnBhc3M="]


def playlist(*names: str, end: str = "#EXT-X-ENDLIST") -> bytes:
    entries = [f"#EXTINF:2,\n{name}" for name in names]
    return "\n".join(["#EXTM3U", "#EXT-X-VERSION:4", "#EXT-X-TARGETDURATION:2", *entries, end, ""]).encode()


@pytest.fixture
def segments(tmp_path: Path) -> dict[str, bytes]:
    """What a playlist can name: two segments of 50 frames each."""
    whole_clip = write_numbered(tmp_path / "whole.ts", 100, options={"g": "50", "bf": "0", "sc_threshold": "0"})
    with av.open(str(whole_clip)) as container:
        middle = [packet.pos for packet in container.demux(video=0) if packet.is_keyframe][1]
    assert middle
    content = whole_clip.read_bytes()
    # Each with the tables that a stream begins with.
    return {"one.ts": content[:middle], "two.ts": content[: 3 * 188] + content[middle:]}


@pytest.mark.parametrize("kind", ["uniform", "keyframes"])
def test_a_playlist(segments: dict[str, bytes], kind: str) -> None:
    contents = {
        **segments,
        "clip.m3u8": playlist("one.ts?token=1", "two.ts"),
        "play": b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nclip.m3u8\n",
    }
    for name in ("clip.m3u8", "play"):
        with serving(files(contents)) as (address, _):
            clip = read_clip(beside(address, name), make_sampler(kind, 8, 0))
        assert numbers_in(clip.frames) == list(clip.indices)
        assert clip.total_frames == 100


def test_the_parts_of_a_playlist_get_its_password(segments: dict[str, bytes]) -> None:
    seen = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers["Authorization"])
        files({**segments, "clip.m3u8": playlist("one.ts", "two.ts")})(handler)

    with serving(answer) as (address, _), serving(answer) as (other, _):
        read_clip(beside(address, "clip.m3u8").replace("//127", "//ann:pass@127"), eight)
        assert set(seen) == {"Basic YW5uOnBhc3M="}
        seen.clear()
        contents = {"clip.m3u8": playlist(beside(other, "one.ts"), beside(other, "two.ts"))}
        with serving(files(contents)) as (first, _):
            read_clip(beside(first, "clip.m3u8").replace("//127", "//ann:pass@127"), eight)
        assert set(seen) == {None}  # of another server


def test_the_parts_of_a_secure_playlist_are_secure(
    secure: tuple[ssl.SSLContext, str], segments: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = secure
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
    authority = trustme.CA()
    untrusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(untrusted)
    with (
        serving(files(segments)) as (plain, asked_plain),
        serving(files(segments), untrusted) as (doubtful, asked_doubtful),
        serving(files(segments), tls) as (good, _),
    ):
        contents = {
            "plain": playlist(beside(plain, "one.ts")),
            "doubtful": playlist(beside(doubtful, "one.ts")),
            "redirected": playlist("moved.ts"),
            "master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{beside(plain, 'x.m3u8')}\n".encode(),
            "key": playlist("one.ts").replace(
                b"#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{beside(plain, "one.ts")}"\n#EXTINF'.encode()
            ),
            "good": playlist(beside(good, "one.ts"), "two.ts"),
            **segments,
        }

        def answer(handler: BaseHTTPRequestHandler) -> None:
            if "moved" in handler.path:
                send(handler, 302, b"", Location=beside(plain, "one.ts"))
            else:
                files(contents)(handler)

        with serving(answer, tls) as (address, _):
            for name, message in {
                "plain": "names http:.* which is not opened",
                "doubtful": "certificate is not trusted",
                "redirected": "redirects to http:.* which is not https",
                "master": "names http:.* which is not opened",
                "key": "names http:.* which is not opened",
            }.items():
                with pytest.raises(ActionClipError, match=f"^the video at https://.*/{name} .*{message}"):
                    read_clip(beside(address, name), eight)
            assert numbers_in(read_clip(beside(address, "good"), eight).frames)
        assert asked_plain == asked_doubtful == []


@pytest.mark.parametrize(
    "named",
    [
        "file:///etc/passwd",
        "/etc/../../clip.ts",
        "data:text/plain,x",
        "ftp://127.0.0.1/a.ts",
        "concat:a.ts|b.ts",
        "subfile,,start,0,end,0,,:a.ts",
        "tcp://127.0.0.1:1/a.ts",
        "http://[/a.ts",
        "pipe:0",
        "fd:",
    ],
)
def test_what_a_playlist_names_is_at_addresses(named: str, tmp_path: Path) -> None:
    with (
        serving(files({"clip.m3u8": playlist(named)})) as (address, _),
        pytest.raises(ActionClipError, match=r"^the video at http.*clip.m3u8 "),
    ):
        read_clip(beside(address, "clip.m3u8"), eight)


def test_playlists_that_have_no_end_or_are_none(segments: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        **segments,
        "live": playlist("one.ts", end=""),
        "master": b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nlive\n",
        "both": b"#EXTM3U\n#EXTINF:2,\none.ts\n#EXT-X-STREAM-INF:BANDWIDTH=1\nclip\n",
        "returns": b"#EXTM3U\r#EXTINF:2,\rone.ts\r#EXT-X-STREAM-INF:BANDWIDTH=1\rclip\r",
        "encrypted": playlist("one.ts").replace(b"#EXTINF", b'#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXTINF'),
        "key": bytes(16),
        "dash": b'<?xml version="1.0"?>\n<MPD type="dynamic" xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        "concat": b"ffconcat version 1.0\nfile one.ts\n",
        "long": b"#EXTM3U\n" + b"#\n" * 2**23,
        "lost": playlist("nowhere.ts"),
        "itself": b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nitself\n",
        "renditions": b"#EXTM3U\n" + b"#EXT-X-STREAM-INF:BANDWIDTH=1\nlive\n" * 300,
        "odd": playlist("one.ts").replace(b"one", b"\x9fne"),
        "wide": playlist("é" * 4000),
    }
    with serving(files(contents)) as (address, _):
        for name, message in {
            "live": "is a live stream",
            "master": "is a live stream",
            "both": "is a live stream",
            "returns": "is a live stream",
            "encrypted": "is encrypted",
            "dash": "is a playlist, which names other files",
            "concat": "is a playlist, which names other files",
            "long": "has more than 16 MiB",
            "itself": "names too many others",
            "renditions": "names too many others",
            "odd": "is not UTF-8 text",
            "wide": "is not UTF-8 text",
            "lost": "nowhere.ts: the server answers 404",
        }.items():
            with pytest.raises(ActionClipError, match=f"http://.*/{name} .*{message}"):
                read_clip(beside(address, name), eight)


def test_a_prediction_does_not_show_a_password(tmp_path: Path, clip_bytes: bytes) -> None:
    save_model(random_model(1, 8, transformer=False), tmp_path, frames=8)
    with serving(whole(clip_bytes)) as (address, _):
        address = address.replace("//", "//ann:hidden@", 1)
        prediction = ActionClip(tmp_path, cache=False).classify(address, ["eating"])
    assert prediction.video == address.replace("hidden", "***")
