"""What the parsers of the commands have in common: an option that has a value is given once."""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence

import pytest

import action_clip
import action_clip.commands.arguments
import action_clip.export.command
import benchmarks.accuracy

PARSERS = [action_clip.commands.arguments.build_parser, action_clip.export.command.build_parser]
TWICE = "it is given twice: give it once"


@pytest.mark.parametrize("build_parser", PARSERS)
def test_no_option_with_a_value_is_given_twice(
    capsys: pytest.CaptureFixture[str], build_parser: Callable[[], ArgumentParser]
) -> None:
    parser = build_parser()
    options = [action for action in parser._actions if action.option_strings and action.nargs != 0]
    assert len(options) > 5
    for option in options:
        value = next(iter(option.choices or ["1"]))
        given = [option.option_strings[0], value, f"{option.option_strings[-1]}={value}"]
        if option.dest in ("text", "video", "none"):
            assert getattr(parser.parse_args(given), option.dest) == ["1", "1"]
            continue
        assert getattr(parser.parse_args(given[:2]), option.dest) is not None
        with pytest.raises(SystemExit) as caught:
            parser.parse_args(given)
        assert caught.value.code == 2
        assert capsys.readouterr().err.endswith(f": error: argument {'/'.join(option.option_strings)}: {TWICE}\n")


def test_a_flag_means_twice_what_it_means_once() -> None:
    assert (
        action_clip.commands.arguments.build_parser().parse_args(["--no-cache", "--debug", "--no-cache"]).no_cache
        is True
    )


@pytest.mark.parametrize(
    ("command", "arguments", "option"),
    [
        (action_clip.main, ["--output", "a", "-t", "run", "--output=b"], "--output"),
        (action_clip.main, ["--model=nano", "-mnano"], "-m/--model"),
        (action_clip.export.command.main, ["x.pt", "--out", "a", "--out", "b"], "--out"),
        (action_clip.export.command.main, ["nano", "--wordnet", "a", "--wordnet", "b"], "--wordnet"),
        (action_clip.export.command.main, ["timesformer", "x.pt", "--frames", "8", "--frames", "8"], "--frames"),
    ],
)
def test_a_command_says_which_option_is_given_twice(
    capsys: pytest.CaptureFixture[str], command: Callable[[Sequence[str]], int], arguments: list[str], option: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f": error: argument {option}: {TWICE}\n")


def test_benchmarks_are_told_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["accuracy", "clips", "--model", "nano", "--model", "vit-32-8f"])
    with pytest.raises(SystemExit):
        benchmarks.accuracy.main()
    assert capsys.readouterr().err.endswith(f": error: argument --model: {TWICE}\n")


@pytest.mark.parametrize(
    ("arguments", "videos"),
    [
        (["a.mp4", "b.mp4"], ["a.mp4", "b.mp4"]),
        (["a.mp4", "-t", "run", "b.mp4"], ["a.mp4", "b.mp4"]),
        (["-t", "run", "a.mp4", "b.mp4", "--top-k", "1"], ["a.mp4", "b.mp4"]),
        (["-v", "a.mp4", "--video=b.mp4", "-vc.mp4", "-v", "-"], ["a.mp4", "b.mp4", "c.mp4", "-"]),
        (["-v", "b.mp4", "a.mp4", "-t", "run", "c.mp4"], ["c.mp4", "b.mp4", "a.mp4"]),
        (["-", "@list", "--", "-x.mp4"], ["-", "@list", "-x.mp4"]),
        (["-t", "run", "--", "-x.mp4", "y.mp4"], ["-x.mp4", "y.mp4"]),
        ([], []),
    ],
)
def test_videos_are_words_then_options(arguments: Sequence[str], videos: list[str]) -> None:
    assert action_clip.commands.arguments.parse(arguments).video == videos
