"""Class maps in every form, and what is wrong with them."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from action_clip.errors import ActionClipError
from action_clip.models.classmap import class_names, read_classmap


@pytest.mark.parametrize(
    ("classmap", "names"),
    [
        ({"eating": 1, "drinking": 0}, ["drinking", "eating"]),
        ({1: "eating", 0: "drinking"}, ["drinking", "eating"]),
        ({"1": "eating", "0": "drinking"}, ["drinking", "eating"]),
        ({"eating": "1", "drinking": "0"}, ["drinking", "eating"]),
        ({np.int64(1): "eating", np.int64(0): "drinking"}, ["drinking", "eating"]),
        ({"eating": np.int32(1), "drinking": np.int32(0)}, ["drinking", "eating"]),
        # Names of digits: a number is an index, and of two texts the key, as in JSON.
        ({0: "7", 1: "3"}, ["7", "3"]),
        ({"7": 0, "3": 1}, ["7", "3"]),
        ({"0": "7", "1": "3"}, ["7", "3"]),
        # Of an open set any numbers will do.
        ({"eating": 900, "drinking": 20}, ["drinking", "eating"]),
        ({0: " playing\nthe  piano "}, ["playing the  piano"]),
    ],
)
def test_names_come_in_the_order_of_their_indices(classmap: dict[Any, Any], names: list[str]) -> None:
    assert class_names(classmap) == names


@pytest.mark.parametrize(
    "classmap",
    [
        {},
        None,
        ["drinking", "eating"],
        "drinking",
        {"drinking": "eating"},
        {"drinking": -1},
        {"drinking": 0.0},
        {"drinking": True},
        {"drinking": None},
        {"drinking": 0, 1: "eating"},
        {0: ""},
        {0: " \n"},
        {0: b"drinking"},
        {0: 1},
        {None: 0},
        {"²": "drinking"},
        {"9" * 5000: "drinking"},
        {("a", "b"): 0},
        {"drinking": [0]},
    ],
    ids=repr,
)
def test_other_input_than_a_class_map_is_refused(classmap: Any) -> None:
    with pytest.raises(ActionClipError) as caught:
        class_names(classmap)
    assert str(caught.value) == ("the class map must be {name: index} or {index: name}, with whole numbers from 0")


@pytest.mark.parametrize("classmap", [{"a": 0, "b": 0}, {0: "a", "0": "b"}, {"1": "a", "01": "b"}])
def test_an_index_twice_is_refused(classmap: dict[Any, Any]) -> None:
    with pytest.raises(ActionClipError, match="the class map has an index twice: give each class its own"):
        class_names(classmap)


@pytest.mark.parametrize(
    ("classmap", "found"),
    [
        ({"a": 0, "b": 1}, "2 classes, 0 to 1"),
        ({"a": 1, "b": 2, "c": 3}, "3 classes, 1 to 3"),
        ({"a": 0, "b": 1, "c": 2, "d": 3}, "4 classes, 0 to 3"),
    ],
)
def test_a_closed_set_is_named_whole(classmap: dict[str, int], found: str) -> None:
    with pytest.raises(ActionClipError) as caught:
        class_names(classmap, 3)
    assert str(caught.value) == f"the class map has {found}, and the model 3, 0 to 2: name each of them, counted from 0"
    assert class_names({"c": 2, "a": 0, "b": 1}, 3) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"drinking": 0, "läuft": 2, "eating": 1}),
        json.dumps({"2": "läuft", "0": "drinking", "1": "eating"}, ensure_ascii=False, indent=1),
        "\ufeff \n" + json.dumps({"0": "drinking", "1": "eating", "2": "läuft"}, ensure_ascii=False),
        "drinking\neating\nläuft\n",
        "\ufeff drinking \r\n\r\n\teating\r\nläuft",
    ],
    ids=["name to index", "index to name", "after a BOM", "lines", "lines after a BOM"],
)
def test_files_in_every_form(tmp_path: Path, content: str) -> None:
    file = tmp_path / "classes"
    file.write_bytes(content.encode())
    assert class_names(read_classmap(file), 3) == ["drinking", "eating", "läuft"]


def test_a_name_may_have_any_character_but_a_line_end(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes("a\u2028b\nc\x0cd\n".encode())
    assert read_classmap(file) == {0: "a\u2028b", 1: "c\x0cd"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("drinking".encode("utf-16-le"), "is not UTF-8 text: save it as UTF-8"),
        (b'{"drinking": 0', "is not valid JSON ("),
        (b'{"drinking": ' + b"9" * 5000 + b"}", "is not valid JSON ("),
        (b'{"a": ' * 100_000, "is not valid JSON ("),
        (b'[["drinking", 0]]', "must be a JSON list of names, or an object of names to ids or ids to names"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes(content)
    with pytest.raises(ActionClipError) as caught:
        read_classmap(file)
    assert str(caught.value).startswith(f"the class map {file} {message}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match=r"the class map missing\.json cannot be read \(No such file"):
        read_classmap("missing.json")
    with pytest.raises(ActionClipError, match=r"the class map .* cannot be read"):
        read_classmap(tmp_path)


def test_an_empty_file_is_no_class_map(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\n")
    with pytest.raises(ActionClipError, match=r"^the class map .* names nothing: write labels into it, one a line$"):
        read_classmap(tmp_path / "classes.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name")
def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    import threading

    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("drinking\neating\n",))
    writer.start()
    assert read_classmap(tmp_path / "pipe") == {0: "drinking", 1: "eating"}
    writer.join()
