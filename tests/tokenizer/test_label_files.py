"""Files of labels and of class maps: one reader, whatever form they are in."""

import codecs
import csv
import io
import json
import logging
from pathlib import Path
from random import Random
from typing import Any

import pytest

from action_clip.errors import ActionClipError
from action_clip.models.classmap import class_names, read_classmap
from action_clip.tokenizer.label_files import one_line
from action_clip.tokenizer.prompts import read_labels, unique_labels, warn_about_lists

PLAIN = (
    "is read as one label a line, {} included: a table begins with the line id{}name, and a list has each label on a"
)
PLAIN_NUMBERED = (
    "is read as one label a line, numbers included: for ids, begin with the line id,name, and write a comma after each"
)
INDEX = "the index in the answer is not the id in"


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "names"),
    [
        # Plain lines.
        ("run\njump", ["run", "jump"]),
        ("run\r\n\r\n jump \r\n", ["run", "jump"]),
        ("run\rjump\r", ["run", "jump"]),
        ("running  fast\nrunning fast", ["running  fast", "running fast"]),
        ("one, two\nrun\njump", ["one, two", "run", "jump"]),
        ('say "hi"\n"quoted"\n24" wheels', ['say "hi"', "quoted", '24" wheels']),
        ("5,000 meters\n10,000 meters", ["5,000 meters", "10,000 meters"]),
        ("5,000 meters", ["5,000 meters"]),
        ("1 man\n2 men\n3 men", ["1 man", "2 men", "3 men"]),
        ("1 man\n3 women", ["1 man", "3 women"]),
        ("1 man\n1 woman", ["1 man", "1 woman"]),
        ("7 men\n8 women", ["7 men", "8 women"]),
        ("\n".join(f"{n} men" for n in range(1, 20)), [f"{n} men" for n in range(1, 20)]),
        # Double quotes around names are no part of them, whatever the form.
        ('"run"\n"run, fast"\n" jump "\n""\n"a" and "b"', ["run", "run, fast", "jump", '""', '"a" and "b"']),
        ('"run, fast"\n"jump, high"', ["run, fast", "jump, high"]),
        ('["\\"run fast\\"", "jump"]', ["run fast", "jump"]),
        ('{"jump": 0, "\\"run fast\\"": 1}', ["jump", "run fast"]),
        ('id,name\n0,"""run"""', ["run"]),
        # Numbered lines.
        (
            "\r\n".join(f"{place} act {place * 'x'}" for place in range(12)),
            [f"act {place * 'x'}".strip() for place in range(12)],
        ),
        ("0: run\n1: [something]", ["run", "[something]"]),
        ("[sitting] eating\n[standing] eating\n{}", ["[sitting] eating", "[standing] eating", "{}"]),
        ("{5} fingers\nrun", ["{5} fingers", "run"]),
        ("run\nname\nid,name", ["run", "name", "id,name"]),
        # A table with a header.
        ("id,name\n0,run\n1,jump\n", ["run", "jump"]),
        ("ID;Name\r\n1;jump\r\n0;run, fast\r\n", ["run, fast", "jump"]),
        ("\ufeffid\tname\n0\trun\n1\tjump", ["run", "jump"]),
        ("label,class_id\nrun,1\njump,0", ["jump", "run"]),
        ('Index, Class Name\n0, "run, fast"\n1, "the ""worm"""\n', ["run, fast", 'the "worm"']),
        ("id,name,count\n1,jump,7\n\n0,run,9\n,,\n", ["run", "jump"]),
        ("id,name\n0,7\n1,3", ["7", "3"]),
        ("id,name\n0,running  fast", ["running  fast"]),
        ('name\n"run, fast"\njump, high\nid', ["run, fast", "jump, high", "id"]),
        ("Label\nrun\njump", ["run", "jump"]),
        (",name\n0,run\n1,jump", ["run", "jump"]),
        (",id,name\n7,1,run\n8,0,jump", ["jump", "run"]),
        ("classId,className\n0,run", ["run"]),
        ("id,action\n0,run", ["run"]),
        ("id,name,category\n0,run,sports", ["run"]),
        # Joined ones.
        ("id,name\n0,run\nid,name\n1,jump", ["run", "jump"]),
        ("name\nrun\n\ufeffname\njump", ["run", "jump"]),
        # A table without one.
        ("0,archery", ["archery"]),
        ("1,jump\n0,run", ["run", "jump"]),
        ("run,0\njump,1", ["run", "jump"]),
        ('0;run\n1;"jump; high"', ["run", "jump; high"]),
        ("1\trun\n0\tjump", ["jump", "run"]),
        ("0,run\n1,100", ["run", "100"]),
        # JSON.
        ('["run", "jump"]', ["run", "jump"]),
        ('{"run": 1, "jump": 0}', ["jump", "run"]),
        ('{"1": "run", "0": "jump"}', ["jump", "run"]),
        ('{"7": 0, "3": "1"}', ["7", "3"]),
        ('[{"id": 1, "name": "run"}, {"id": 0, "name": "jump"}]', ["jump", "run"]),
        ('[{"Label": "run", "more": []}, {"Label": "jump"}]', ["run", "jump"]),
        ('[{"label": 3, "name": "run"}]', ["run"]),
        # Comments.
        ("# sports\nrun\n  #\tmore\n#\n## here\njump", ["run", "jump"]),
        ("# from the net\nid,name\n# first\n0,run", ["run"]),
        ('# mine\n["run"]', ["run"]),
        # Byte-order marks, as of files that were joined, with and without a line end between them.
        ("\ufeffrun\n\ufeffjump\r\n\ufeff\ufeffwave", ["run", "jump", "wave"]),
        ("\ufeffrun\ufeffjump", ["run", "jump"]),
        ('\ufeff["run"]', ["run"]),
        (codecs.BOM_UTF16_LE + "id,name\n0,läuft\n".encode("utf-16-le"), ["läuft"]),
        (codecs.BOM_UTF16_BE + "läuft\r\n跑步".encode("utf-16-be"), ["läuft", "跑步"]),
    ],
)
def test_what_a_file_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | bytes, names: list[str]
) -> None:
    file = written(tmp_path / "labels", content)
    assert read_labels(file) == names
    assert class_names(read_classmap(file), len(names)) == names
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("run, walk\njump, hop", ["run, walk", "jump, hop"]),
        ("1, 2, 3 go", ["1, 2, 3 go"]),
        ("run; jump", ["run; jump"]),
        ("5,000 meters, uphill", ["5,000 meters, uphill"]),
        ("kata, 1\nkata, 2", ["kata, 1", "kata, 2"]),
        ("0,7\n1,3", ["0,7", "1,3"]),
        ("1,run\n1,jump", ["1,run", "1,jump"]),
        ("0,run\n1,jump, high", ["0,run", "1,jump, high"]),
        ("number,what\n0,run", ["number,what", "0,run"]),
        ("0\trun\tx\n1\tjump\ty", ["0\trun\tx", "1\tjump\ty"]),
        ("0,run\n1,jump\nwave", ["0,run", "1,jump", "wave"]),
        ('0,"run\n1,jump', ['0,"run', "1,jump"]),
        # What all of several rows may be is no name of one.
        ("id,key,category\n0,get,move\n1,put,move", ["id,key,category", "0,get,move", "1,put,move"]),
    ],
)
def test_ambiguous_files_are_read_as_lines_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, names: list[str]
) -> None:
    file = written(tmp_path / "labels", content)
    assert read_labels(file) == names
    assert list(read_classmap(file).values()) == names
    delimiter = next(character for character in "\t;," if character in content)
    them, shown = {",": ("commas", ","), ";": ("semicolons", ";"), "\t": ("tabs", "<TAB>")}[delimiter]
    plain = PLAIN.format(them, shown)
    assert caplog.messages == [
        f"{what} {file} {plain} line of its own" for what in ("the labels file", "the class map")
    ]


def test_few_lines_that_begin_with_numbers_are_labels_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path / "labels", "1 step forward\n2 jumps\n")
    assert read_labels(file) == ["1 step forward", "2 jumps"]
    assert caplog.messages == [f"the labels file {file} {PLAIN_NUMBERED}"]


def test_a_hash_without_a_space_begins_a_label(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path / "labels", "# a comment\nrun\n#selfie\n\n#1 fan\n")
    assert read_labels(file) == ["run", "#selfie", "#1 fan"]
    assert caplog.messages == [
        f"the labels file {file} has labels that begin with # (lines 3, 5): a comment begins with # and a space"
    ]
    assert read_labels(written(file, '["# of people"]')) == ["# of people"]


@pytest.mark.parametrize(
    ("content", "before", "is_said"),
    [
        ("id,name\n0,run\n1,jump", [], False),
        ("id,name\n1,run\n2,jump", [], True),
        ("id,name\n1,run\n2,jump", ["wave"], False),
        ("id,name\n0,run\n1,jump", ["wave"], True),
        ("id,name\n0,run\n1,jump", ["run "], False),
        ("id,name\n0,run\n1,run\n2,jump", [], True),
        ("1,run\n2,jump", [], True),
        ("3,run\n17,jump", [], True),
        ('{"run": 5, "jump": 7}', [], True),
        ('["run", "jump"]', ["wave"], False),
        ("run\njump", ["wave"], False),
    ],
)
def test_an_index_that_is_not_the_id_of_the_file_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, before: list[str], is_said: bool
) -> None:
    file = written(tmp_path / "labels", content)
    labels = read_labels(file, before)
    assert {*labels} == {"run", "jump"}
    assert [message.startswith(f"{INDEX} the labels file {file}: ") for message in caplog.messages] == [True] * is_said


TABLE = "id,name\n0,run\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TABLE + "0,jump", "{} has the id 0 twice: give each name its own"),
        (TABLE + "x,jump", "line 3 of {} has 'x' for an id: write a whole number from 0"),
        (TABLE + "-1,jump", "line 3 of {} has '-1' for an id: write a whole number from 0"),
        (TABLE + "# more\n\n1,", "line 5 of {} has no name: write one, or leave out the line"),
        (TABLE + "1,jump, high", "the header of {} has 2 columns, and its line 3 has 3: write as many, a name with a"),
        (TABLE + "1", "the header of {} has 2 columns, and its line 3 has 1: write as many, a name with a comma in"),
        (TABLE + '1,"jump\n2,wave\n', "line 3 of {} is no row of a table: check its quotation marks"),
        (TABLE + '1,"jump" high\n2,wave\n', "line 3 of {} is no row of a table: check its quotation marks"),
        (TABLE + f'1,"{"x" * 200_000}"', "line 3 of {} is no row of a table: check its quotation marks"),
        ("id,name\n", "{} names nothing: write labels into it, one a line"),
        ("# nothing\n", "{} names nothing: write labels into it, one a line"),
        ("[]", "{} names nothing: write labels into it, one a line"),
        ('{"run": 0, "jump": 0}', "{} has the id 0 twice: give each name its own"),
        ('{"0": "run", "0": "jump"}', "{} has the id 0 twice: give each name its own"),
        ('[{"id": 0, "name": "run"}, {"name": "jump"}]', "{} must be a JSON list of names, or an object"),
        ('["run", 1]', "{} must be a JSON list of names, or an object"),
        ('["run", " "]', "{} must be a JSON list of names, or an object"),
        ("[1, 2]", "{} must be a JSON list of names, or an object"),
        ('{"run": true}', "{} must be a JSON list of names, or an object"),
        ('{"classes": ["run"]}', "{} must be a JSON list of names, or an object"),
        ('["run",', "{} is not valid JSON ("),
        ("{'run': 0}", "{} is not valid JSON ("),
        ('[{"a": ' * 50_000, "{} is not valid JSON ("),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    file = written(tmp_path / "labels", content)
    with pytest.raises(ActionClipError) as caught:
        read_labels(file)
    assert str(caught.value).startswith(message.format(f"the labels file {file}"))
    with pytest.raises(ActionClipError) as caught:
        read_classmap(file)
    assert str(caught.value).startswith(message.format(f"the class map {file}"))


def table(rows: list[list[Any]], **dialect: Any) -> str:
    stream = io.StringIO()
    csv.writer(stream, **dialect).writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_names_are_each_form_gives_them_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    random = Random(seed)
    letters = "ab12  ,;\"'#{}[]:&\\läü跑\u00a0"
    # A line that begins with "# " is a comment, in a table too.
    names = ["".join(random.choices(letters, k=random.randint(1, 12))).strip("# \u00a0") for _ in range(9)]
    # Double quotes around a name are no part of it.
    names = [name for name in dict.fromkeys(names) if name and not name[0] == name[-1] == '"']
    ids = list(range(len(names)))
    shuffled = random.sample(ids, len(ids))
    rows = [[id, names[id]] for id in shuffled]
    forms = [
        json.dumps(names, indent=random.choice((None, 1))),
        json.dumps({str(id): name for id, name in rows}, ensure_ascii=random.random() < 0.5),
        json.dumps([{"name": name, "id": id} for id, name in rows]),
        *(table([["id", "name"], *rows], delimiter=delimiter) for delimiter in ",;\t"),
        *(table([["name", "id"], *([name, id] for id, name in rows)], delimiter=delimiter) for delimiter in ",;"),
        table([["name"], *([name] for name in names)], quoting=csv.QUOTE_ALL),
    ]
    for form in forms:
        encoded = ("\ufeff" * random.randint(0, 1) + form.replace("\r\n", random.choice(("\r\n", "\n")))).encode()
        assert read_labels(written(tmp_path / "labels", encoded)) == names, form
    assert caplog.messages == []


def test_spaces_inside_are_the_users_and_line_ends_become_one() -> None:
    assert one_line("  playing  the \u00a0 piano ") == "playing  the \u00a0 piano"
    assert one_line("a\tb \r\n\r\n c\u2028d\x1fe\x85") == "a b c d e"
    assert one_line(" " * 1_000_000 + "\n" + " " * 1_000_000) == ""
    assert unique_labels(["run  fast", "run\n\tfast", " run  fast"]) == ["run  fast", "run fast"]
    assert class_names({0: "run  fast\n"}) == ["run  fast"]


@pytest.mark.parametrize(
    ("label", "looks_so"),
    [
        ("running, walking", True),
        ("running,walking", True),
        ("running; walking", True),
        ("跑步、走路", True),
        ("1, 2, 3 go", True),
        ("running 5,000 meters", False),
        ("running and walking", False),
    ],
)
def test_labels_that_look_like_several_cause_a_warning(
    caplog: pytest.LogCaptureFixture, label: str, looks_so: bool
) -> None:
    with caplog.at_level(logging.WARNING, logger="action_clip"):
        warn_about_lists(["jump", label])
    assert caplog.messages == [f"one label, not several: '{label}'; for several repeat --text"] * looks_so
