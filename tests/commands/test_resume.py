"""The file of answers that a later run goes on with: ended at any moment, it gets exactly one answer for each video."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from action_clip.commands.resume import ResumableOutput, Settings, digest, resumable_output
from action_clip.commands.videos import ListedVideo, list_videos
from action_clip.errors import ActionClipError
from action_clip.system.addresses import display_name

ROOT = Path(__file__).parents[2]
SETTINGS = {"the model": "nano", "labels": digest(["run", "walk"]), "--top-k": 5}
HEAD = "video,answer\n"


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ListedVideo]:
    """Four files and a URL."""
    monkeypatch.chdir(tmp_path)
    names = [f"{letter}.mp4" for letter in "abcd"]
    for name in names:
        Path(name).write_text(name)
    return list_videos([*names, "https://host/e.mp4?token=secret"]).videos


def answer(video: ListedVideo) -> str:
    return f"{display_name(video.name)},{len(video.name)}\n"


@contextmanager
def opened(*, resume: bool = True, settings: Callable[[], Settings] = lambda: SETTINGS) -> Iterator[ResumableOutput]:
    with resumable_output("out.csv", settings, HEAD, resume=resume) as output:
        yield output


def run(videos: list[ListedVideo], *, resume: bool = True, broken: Container[str] = ()) -> list[str]:
    """What a run does; returns the names of the videos that were not answered before."""
    done = []
    with opened(resume=resume) as output:
        answered = output.answered(videos)
        for place, video in enumerate(videos):
            if place not in answered:
                done.append(video.name)
                failed = video.name in broken
                output.write(f"{video.name},\n" if failed else answer(video), video, failed=failed)
    return done


def expected(videos: list[ListedVideo]) -> list[str]:
    return [HEAD, *sorted(map(answer, videos))]


def lines() -> list[str]:
    head, *rest = Path("out.csv").read_text().splitlines(keepends=True)
    return [head, *sorted(rest)]


def test_what_is_answered_is_not_done_again(videos: list[ListedVideo]) -> None:
    assert run(videos[:2]) == ["a.mp4", "b.mp4"]
    assert run(videos[1:]) == [video.name for video in videos[2:]]
    before = [Path(name).read_bytes() for name in ("out.csv", "out.csv.resume")]
    assert run(videos) == []
    assert [Path(name).read_bytes() for name in ("out.csv", "out.csv.resume")] == before
    assert lines() == expected(videos)
    assert sorted(os.listdir()) == [*(f"{letter}.mp4" for letter in "abcd"), "out.csv", "out.csv.resume"]


def test_without_resume_it_begins_anew_at_the_first_answer(videos: list[ListedVideo]) -> None:
    run(videos)
    before = Path("out.csv").read_text()
    with opened(resume=False) as output:
        assert output.answered(videos) == set()
        assert Path("out.csv").read_text() == before
        output.write(answer(videos[0]), videos[0], failed=False)
        assert Path("out.csv").read_text() == HEAD + answer(videos[0])
    assert run(videos) == [video.name for video in videos[1:]]


def test_a_failed_video_is_tried_again_and_its_line_replaced(videos: list[ListedVideo]) -> None:
    assert run(videos[:3], broken=["b.mp4"]) == ["a.mp4", "b.mp4", "c.mp4"]
    assert "b.mp4,\n" in lines()
    assert run(videos, broken=["b.mp4"]) == ["b.mp4", "d.mp4", videos[4].name]
    assert lines().count("b.mp4,\n") == 1
    assert run(videos) == ["b.mp4"]
    assert lines() == expected(videos)


def test_ended_at_any_byte_it_has_one_answer_a_video(videos: list[ListedVideo]) -> None:
    """Every state that a process can leave: the record is a piece ahead, and each write may be half done."""
    run(videos[:4], broken=["b.mp4"])
    answers, record = (Path(name).read_bytes() for name in ("out.csv", "out.csv.resume"))
    sizes = [json.loads(line)["size"] for line in record.splitlines()[1:]]
    begin = record.index(b"\n") + 1
    states = []
    written, recorded = 0, begin
    for size, line in zip(sizes, record[begin:].splitlines(keepends=True), strict=True):
        states += [(cut, written) for cut in (recorded, recorded + 1, recorded + len(line) - 1)]
        recorded += len(line)
        states += [(recorded, written + cut) for cut in range(size)]
        written += size
    assert written == len(answers)
    for cut, end in [*states, (recorded, written)]:
        Path("out.csv").write_bytes(answers[:end])
        Path("out.csv.resume").write_bytes(record[:cut])
        again = run(videos)
        assert set(again) >= {"b.mp4", videos[4].name}
        assert lines() == expected(videos), (cut, end)
        assert run(videos) == []


def run_in_parts(videos: list[ListedVideo], *, resume: bool = True, broken: Container[str] = ()) -> list[str]:
    """As `run`, with two lines for each video, and a third for one that fails then."""
    done = []
    with opened(resume=resume) as output:
        answered = output.answered(videos)
        for place, video in enumerate(videos):
            if place not in answered:
                done.append(video.name)
                for line in lines_of(video):
                    output.write(line, video, failed=False, more=True)
                failed = video.name in broken
                output.write(f"{video.name},failed\n" if failed else "", video, failed=failed)
    return done


def lines_of(video: ListedVideo) -> list[str]:
    return [f"{display_name(video.name)},{number}\n" for number in range(2)]


def test_an_answer_in_parts_that_is_ended_at_any_byte_is_done_again(videos: list[ListedVideo]) -> None:
    run_in_parts(videos[:4], broken=["b.mp4"])
    answers, record = (Path(name).read_bytes() for name in ("out.csv", "out.csv.resume"))
    assert answers.decode() == HEAD + "".join(
        line for video in videos[:4] for line in [*lines_of(video), *["b.mp4,failed\n"] * (video.name == "b.mp4")]
    )
    first, *added = record.splitlines(keepends=True)
    states = []
    recorded, begin, written = len(first), 0, 0
    for line in added:
        piece = json.loads(line)
        states += [(cut, written) for cut in (recorded, recorded + 1, recorded + len(line) - 1)]
        recorded += len(line)
        states += [(recorded, cut) for cut in range(written, begin + piece["size"])]
        written = begin + piece["size"]
        begin = begin if piece["grows"] else written
    assert written == len(answers)
    for cut, end in [*states, (recorded, written)]:
        Path("out.csv").write_bytes(answers[:end])
        Path("out.csv.resume").write_bytes(record[:cut])
        assert set(run_in_parts(videos)) >= {"b.mp4", videos[4].name}
        assert lines() == [HEAD, *sorted(line for video in videos for line in lines_of(video))], (cut, end)
        assert run_in_parts(videos) == []


@pytest.mark.parametrize("added", ["mine", "a.mp4,0\n"])
def test_an_answer_in_parts_that_someone_has_changed_is_left_alone(videos: list[ListedVideo], added: str) -> None:
    with opened() as output:
        output.write(lines_of(videos[0])[0], videos[0], failed=False, more=True)
    Path("out.csv").write_text(Path("out.csv").read_text() + added)
    before = Path("out.csv").read_bytes()
    with pytest.raises(ActionClipError, match=r"out\.csv has been changed since it was written"):
        run_in_parts(videos)
    assert Path("out.csv").read_bytes() == before


def test_a_record_of_an_earlier_version_has_whole_answers(videos: list[ListedVideo]) -> None:
    run(videos[:2])
    record = Path("out.csv.resume").read_text()
    Path("out.csv.resume").write_text(record.replace(', "grows": false', ""))
    assert "grows" in record
    assert "grows" not in Path("out.csv.resume").read_text()
    assert run(videos) == [video.name for video in videos[2:]]
    assert lines() == expected(videos)


def test_a_failure_stays_until_its_video_is_tried_again(videos: list[ListedVideo]) -> None:
    run(videos[:3], broken=("a.mp4", "c.mp4"))
    assert run([videos[0], videos[3]]) == ["a.mp4", "d.mp4"]
    assert lines() == [HEAD, answer(videos[0]), answer(videos[1]), "c.mp4,\n", answer(videos[3])]
    Path("c.mp4").write_text("whole")  # it is another file of the same name
    assert run(list_videos(["c.mp4", videos[4].name]).videos) == ["c.mp4", videos[4].name]
    assert lines() == expected(videos)


def test_what_was_cut_off_is_taken_out_though_nothing_is_left_to_do(videos: list[ListedVideo]) -> None:
    run(videos[:2])
    Path("out.csv").write_bytes(Path("out.csv").read_bytes()[:-3])
    assert run(videos[:1]) == []
    assert lines() == expected(videos[:1])
    assert run(videos) == [video.name for video in videos[1:]]


def test_ended_while_failures_are_taken_out(videos: list[ListedVideo]) -> None:
    """The answers are replaced first, and the record still has the failures."""
    run(videos[:4], broken=("a.mp4", "d.mp4"))
    Path("out.csv").write_text(Path("out.csv").read_text().replace("a.mp4,\n", ""))
    assert run(videos[1:3]) == []
    assert run(videos) == ["a.mp4", "d.mp4", videos[4].name]
    assert lines() == expected(videos)
    for broken in ("a.mp4", "b.mp4", "d.mp4"):
        run(videos[:4], resume=False, broken=[broken])
        answers = Path("out.csv").read_text()
        Path("out.csv").write_text(answers.replace(f"{broken},\n", ""))
        assert run(videos) == [broken, videos[4].name]
        assert lines() == expected(videos)


def test_a_secret_is_not_written_anywhere(videos: list[ListedVideo]) -> None:
    run([*videos, *list_videos(["ftp://user:secret@host/f.mp4"]).videos])
    assert "secret" not in Path("out.csv.resume").read_text()
    other = list_videos(["https://host/e.mp4?token=another"]).videos
    assert run(other) == ["https://host/e.mp4?token=another"]


def test_another_name_of_an_answered_file_is_known(videos: list[ListedVideo]) -> None:
    run(videos)
    os.rename("c.mp4", "new.mp4")
    assert run(list_videos(["./a.mp4", os.path.abspath("b.mp4"), "new.mp4"]).videos) == []


def test_an_answered_file_that_is_gone_stays_answered(videos: list[ListedVideo]) -> None:
    run(videos)
    os.unlink("a.mp4")
    assert run(list_videos(["a.mp4", "b.mp4"]).videos) == []


def test_a_file_that_was_changed_is_an_error(videos: list[ListedVideo]) -> None:
    run(videos)
    before = Path("out.csv").read_bytes()
    Path("b.mp4").write_text("another video")
    message = r"b\.mp4 was changed after it was answered in .*out\.csv: leave out --resume, or name another --output"
    for name in ("b.mp4", "./b.mp4"):
        with pytest.raises(ActionClipError, match=message):
            run(list_videos(["a.mp4", name]).videos)
    assert Path("out.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": digest(["run"])}, "was begun with other labels: give the same again"),
        ({"--top-k": 3}, "was begun with --top-k 5, not 3: give the same again"),
        ({"the model": "x", "--top-k": 1}, "was begun with the model nano, not x and --top-k 5, not 1: give the same"),
    ],
)
def test_other_settings_are_an_error_that_names_them(
    videos: list[ListedVideo], change: dict[str, object], message: str
) -> None:
    run(videos)
    before = Path("out.csv").read_bytes()
    with pytest.raises(ActionClipError, match=message), opened(settings=lambda: SETTINGS | change):
        pass
    assert Path("out.csv").read_bytes() == before


def test_a_setting_that_is_known_late_is_compared_before_anything_is_written(videos: list[ListedVideo]) -> None:
    graphs: list[str | None] = [None, "one"]
    with opened(settings=lambda: {"graphs": graphs.pop()}) as output:
        output.write(answer(videos[0]), videos[0], failed=False)
    graphs = ["another", None]
    before = Path("out.csv").read_bytes()
    with opened(settings=lambda: {"graphs": graphs.pop()}) as output:
        assert output.answered(videos) == {0}
        with pytest.raises(ActionClipError, match="begun with graphs one, not another"):
            output.write(answer(videos[1]), videos[1], failed=False)
    assert Path("out.csv").read_bytes() == before


@pytest.mark.parametrize("record", [None, "", "my notes\n", '{"action_clip": 1}\n', "[]\n", "\xff\0"])
def test_what_this_program_has_not_made_is_left_alone(videos: list[ListedVideo], record: str | None) -> None:
    Path("out.csv").write_text("my own table\n")
    if record is not None:
        Path("out.csv.resume").write_text(record)
    message = "is not to be resumed: there is no out.csv.resume" if record is None else "is in the way, and not of this"
    with pytest.raises(ActionClipError, match=message):
        run(videos)
    if record is not None:
        with pytest.raises(ActionClipError, match=message):
            run(videos, resume=False)
        assert Path("out.csv.resume").read_text() == record
    assert Path("out.csv").read_text() == "my own table\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "x.mp4,1\n",
        lambda text: text + "\n",
        lambda text: text.replace("b.mp4", "B.mp4"),
        lambda text: text.replace("b.mp4,5\n", ""),
        lambda text: "another\n" * 30,
        lambda text: "mine",
        lambda text: text[:20] + "mine",
    ],
)
def test_answers_that_someone_has_changed_are_left_alone(
    videos: list[ListedVideo], change: Callable[[str], str]
) -> None:
    run(videos)
    changed = change(Path("out.csv").read_text())
    Path("out.csv").write_text(changed)
    with pytest.raises(ActionClipError, match=r"out\.csv has been changed since it was written"):
        run(videos)
    assert Path("out.csv").read_text() == changed


def test_an_empty_file_or_none_is_begun(videos: list[ListedVideo]) -> None:
    Path("out.csv").touch()
    run(videos)
    assert lines() == expected(videos)
    os.unlink("out.csv")  # and the record stays
    run(videos)
    assert lines() == expected(videos)


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: bytes(len(line)),
        lambda line: line.replace(b'"size": ', b'"size": -'),
        lambda line: re.sub(rb'"size": \d+', b'"size": null', line),
        lambda line: re.sub(rb'"file": [^]]*', b'"file": [[], 0, 0, 0', line),
    ],
)
def test_a_damaged_record_loses_nothing(videos: list[ListedVideo], damage: Callable[[bytes], bytes]) -> None:
    run(videos)
    record = Path("out.csv.resume").read_bytes().splitlines(keepends=True)
    record[3] = damage(record[3])
    Path("out.csv.resume").write_bytes(b"".join(record))
    before = Path("out.csv").read_bytes()
    with pytest.raises(ActionClipError, match="has been changed since it was written"):
        run(videos)
    assert Path("out.csv").read_bytes() == before


def test_one_run_at_a_time(videos: list[ListedVideo]) -> None:
    code = (
        "import sys\n"
        "from action_clip.commands.resume import resumable_output\n"
        "with resumable_output('out.csv', dict, '', resume=False):\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"open"
        for resume in (True, False):
            with pytest.raises(ActionClipError, match=r"another run is writing to .*out\.csv: wait until it has ended"):
                run(videos, resume=resume)
        other.stdin.close()
        assert other.wait() == 0
    run(videos)
    assert lines() == expected(videos)


def test_a_lock_that_a_killed_run_left_holds_nobody_up_and_a_file_of_that_name_is_not_touched(
    videos: list[ListedVideo],
) -> None:
    Path("out.csv.lock").touch()
    run(videos)
    assert lines() == expected(videos)
    Path("out.csv.lock").write_text("mine")
    with pytest.raises(ActionClipError, match=r"out\.csv\.lock is in the way"):
        run(videos)
    assert Path("out.csv.lock").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_stays_a_link(videos: list[ListedVideo]) -> None:
    Path("real").mkdir()
    os.symlink("real/out.csv", "out.csv")
    run(videos, broken=["b.mp4"])
    run(videos)
    assert Path("out.csv").is_symlink()
    assert lines() == expected(videos)
    assert sorted(os.listdir("real")) == ["out.csv", "out.csv.resume"]
    os.unlink("out.csv")
    os.symlink("gone/out.csv", "out.csv")
    with pytest.raises(ActionClipError, match=r"there is no folder .*gone; create it first"):
        run(videos)
    assert not Path("gone").exists()


def test_a_disk_that_is_full_loses_nothing(videos: list[ListedVideo]) -> None:
    """The limit to the size of a file stands for it: the record is short, and the third answer does not fit."""
    pytest.importorskip("resource")
    code = (
        "import resource, sys\n"
        "from action_clip.commands.resume import resumable_output\n"
        "from action_clip.commands.videos import list_videos\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        f"with resumable_output('out.csv', lambda: {SETTINGS!r}, {HEAD!r}, resume=False) as output:\n"
        "    for video in list_videos(['a.mp4', 'b.mp4', 'c.mp4']).videos:\n"
        "        output.write(video.name + ',' + 1500 * 'x' + '\\n', video, failed=False)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "ActionClipError: cannot write" in done.stderr
    assert len(Path("out.csv").read_text().splitlines()) == 4  # the last of them is cut off
    assert run(videos) == ["c.mp4", "d.mp4", videos[4].name]
    assert lines()[1:3] == [f"{name},{1500 * 'x'}\n" for name in ("a.mp4", "b.mp4")]
    assert lines()[3:] == expected(videos)[3:]


def test_where_the_record_cannot_be_written_the_answers_stay(
    videos: list[ListedVideo], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    run(videos)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ActionClipError, match=r"cannot write .*out\.csv: No space left on device"):
        run(videos, resume=False)
    assert lines() == expected(videos)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_record_that_is_no_file_is_an_error(videos: list[ListedVideo]) -> None:
    os.symlink("/dev/full", "out.csv.resume")
    with pytest.raises(ActionClipError, match="cannot be read"):
        run(videos)
    assert not Path("out.csv").exists()
