import logging
import os
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest

from action_clip.errors import ActionClipError
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import (
    DEFAULT_PROMPTS,
    fill_prompts,
    groups_of_equal_labels,
    read_labels,
    read_prompts,
    unique_labels,
    warn_about_equal_labels,
)


def test_default_prompts_are_the_sixteen_of_actionclip() -> None:
    assert len(DEFAULT_PROMPTS) == 16
    assert DEFAULT_PROMPTS[0] == "a photo of action {}"
    assert DEFAULT_PROMPTS[7] == "{}"
    assert DEFAULT_PROMPTS[15] == "The woman is {}"
    assert len(set(DEFAULT_PROMPTS)) == 16
    assert {prompt.count("{}") for prompt in DEFAULT_PROMPTS} == {1}


def test_fill_puts_every_label_into_one_prompt_before_the_next() -> None:
    assert fill_prompts(["{}, an action", "A {}"], ["run", "{0} {x} 100%"]) == [
        "run, an action",
        "{0} {x} 100%, an action",
        "A run",
        "A {0} {x} 100%",
    ]
    assert fill_prompts(["{now} {}"], ["run"]) == ["{now} run"]


@pytest.mark.parametrize(
    "content",
    [
        "driving car\n\n  \t\n naïve dance \nwave",
        "\ufeffdriving car\r\n\r\nnaïve dance\r\nwave\r\n",
        "driving car\rnaïve dance\rwave",
    ],
)
def test_labels_are_the_stripped_lines_of_a_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content.encode())
    assert read_labels(path) == ["driving car", "naïve dance", "wave"]
    assert read_labels(str(path)) == ["driving car", "naïve dance", "wave"]


def test_labels_may_hold_any_line_break_but_that_of_text_files(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("push\u2028up\npull\x0cup\n", encoding="utf-8")
    assert read_labels(path) == ["push\u2028up", "pull\x0cup"]


def test_prompts_are_the_lines_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeffa clip of {}\n\n{} {now}\n\ufeff{}!\n", encoding="utf-8")
    assert read_prompts(path) == ("a clip of {}", "{} {now}", "{}!")
    path.write_text("a clip of {}\n", encoding="utf-16")
    assert read_prompts(path) == ("a clip of {}",)


@pytest.mark.parametrize(("prompt", "count"), [("a video", 0), ("{} and {}", 2), ("a { }", 0)])
def test_a_prompt_has_one_place_for_the_label(tmp_path: Path, prompt: str, count: int) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(f"a clip of {{}}\n\n{prompt}\n", encoding="utf-8")
    with pytest.raises(ActionClipError) as caught:
        read_prompts(path)
    assert str(caught.value) == (
        f"line 3 of the prompts file {path} has {{}} {count} times: write it exactly once, where the label goes"
    )


NOT_TEXT = "is not UTF-8 text: save it as UTF-8"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("naïve".encode("latin-1"), NOT_TEXT),
        ("wave".encode("utf-32"), NOT_TEXT),
        (b"\xff\xfew\0a", NOT_TEXT),
        (b"\xff\xfe\x00\xd8w\0", NOT_TEXT),
        ("wave\n".encode("utf-16-le"), NOT_TEXT),
        (b"", "names nothing: write labels into it, one a line"),
        (b"\xef\xbb\xbf \r\n\n", "names nothing: write labels into it, one a line"),
    ],
)
def test_files_that_hold_no_labels(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(ActionClipError) as caught:
        read_labels(path)
    assert str(caught.value) == f"the labels file {path} {problem}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError) as missing:
        read_labels(tmp_path / "none.txt")
    assert str(missing.value) == (
        f"the labels file {tmp_path / 'none.txt'} cannot be read (No such file or directory): name a text file"
    )
    with pytest.raises(ActionClipError) as folder:
        read_prompts(tmp_path)
    assert str(folder.value).startswith(f"the prompts file {tmp_path} cannot be read (")
    assert os.linesep not in str(folder.value)


def test_texts_that_no_model_reads_are_refused_before_they_are_tokenized(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match=r"^the label 'x{40}'… has 1000000 characters, and no model reads more"):
        unique_labels(["run", "x" * 1_000_000])
    (tmp_path / "prompts.txt").write_text("a {}\n" + "x" * 1_000_000 + "{}\n")
    with pytest.raises(ActionClipError, match=r"^line 2 of the prompts file .* has 1000002 characters"):
        read_prompts(tmp_path / "prompts.txt")


def test_repeated_labels_are_used_once_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="action_clip"):
        assert unique_labels(["run", " wave ", "run ", "Run", "jump", "wave", "run"]) == [
            "run",
            "wave",
            "Run",
            "jump",
        ]
    assert caplog.messages == ["labels given more than once are used once: 'run', 'wave'"]
    caplog.clear()
    unique_labels([f"act {number}" for number in range(1_000)] * 2)
    assert caplog.messages[0].endswith(": " + ", ".join(f"'act {number}'" for number in range(10)) + ", …")


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["run", "jump", "Run", "RUN"], [["run", "Run", "RUN"]]),
        (
            ["don't run", "run  fast", "don 't run", "run fast"],
            [["don't run", "don 't run"], ["run  fast", "run fast"]],
        ),
        (["café", "cafe\u0301", "cafe", "CAFÉ", "cafÃ©"], [["café", "cafe\u0301", "CAFÉ", "cafÃ©"]]),
        (["ｒun", "run", "r un", "ru n"], [["ｒun", "run"]]),
        (["r&amp;b", "r & b", "r&b"], [["r&amp;b", "r & b", "r&b"]]),
        (["count 1 2", "count 12", "count 21"], [["count 1 2", "count 12"]]),
        (["run", "runs", "run.", "run !", "!run"], []),
    ],
)
def test_labels_that_are_one_to_the_model_are_kept_and_named(
    caplog: pytest.LogCaptureFixture, labels: list[str], groups: list[list[str]]
) -> None:
    assert groups_of_equal_labels(labels) == groups
    assert unique_labels(labels) == labels
    assert caplog.messages == []
    warn_about_equal_labels(labels)
    named = "; ".join(", ".join(f"'{label}'" for label in group) for group in groups)
    assert caplog.messages == [
        "labels that differ only in capitals, spaces or the way that their characters are written are the same to the "
        f"model, and share their probability: {named}"
    ] * bool(groups)


def test_labels_are_the_same_where_their_tokens_are() -> None:
    random = Random(0)
    pieces = [
        "run",
        "Run",
        " ",
        "  ",
        "1",
        "12",
        "'s",
        "'",
        ".",
        "é",
        "e\u0301",
        "ﬁ",
        "fi",
        "&amp;",
        "&",
        "Ã©",
        "跑",
        "“",
        '"',
    ]
    labels = list(dict.fromkeys("".join(random.choices(pieces, k=random.randint(1, 3))) for _ in range(600)))
    by_tokens = defaultdict(list)
    for label in labels:
        by_tokens[tuple(default_tokenizer().tokenize(label))].append(label)
    expected = [group for group in by_tokens.values() if len(group) > 1]
    assert len(expected) > 20
    assert sorted(groups_of_equal_labels(labels)) == sorted(expected)


def test_of_many_labels_that_are_the_same_some_are_named(caplog: pytest.LogCaptureFixture) -> None:
    labels = [f"{word}{' ' * spaces}{number}" for number in range(2000) for word in ("run", "Run") for spaces in (0, 1)]
    warn_about_equal_labels(labels)
    (message,) = caplog.messages
    assert "'run0', 'run 0', 'Run0', 'Run 0'; 'run1'" in message
    assert message.endswith("; …")
    assert len(message) < 1000


def test_labels_without_repeats_cause_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert unique_labels(label for label in ("b", "a")) == ["b", "a"]
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "there are no labels to choose from: give at least one"),
        (["run", "  "], "a label is blank: give it words or leave it out"),
        ("run", "the labels are one string, 'run': give a list of strings"),
    ],
)
def test_invalid_labels(labels: list[str], message: str) -> None:
    with pytest.raises(ActionClipError) as caught:
        unique_labels(labels)
    assert str(caught.value) == message
