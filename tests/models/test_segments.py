"""Segments of windows: where they begin and end, what opens and closes them, and what is left out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from action_clip import ActionClipError, Prediction, Segment, Window, segments
from action_clip.models.segments import happening

LABELS = ("walking", "falling", "none of these")


def windows_of(
    rows: Iterable[Sequence[float]], *, length_s: float = 4.0, stride_s: float = 2.0, **changes: Any
) -> Iterator[Window]:
    """A window for each row, which has the probabilities of the labels."""
    for number, row in enumerate(rows):
        prediction = Prediction(
            labels=LABELS[: len(row)],
            probabilities=np.array(row),
            similarities=np.zeros(len(row)),
            top_k=1,
            video_features=np.zeros(4, np.float32),
            frame_indices=(0,),
            model="small",
            video="a.mp4",
            duration_s=None,
            frame_times_s=(0.0,),
            frames=np.zeros((0, 0, 0, 3), np.uint8),
            timings_s={},
        )
        yield Window(number * stride_s, number * stride_s + length_s, replace(prediction, **changes))


def spans(found: Iterable[Segment]) -> list[tuple[float, float, str]]:
    return [(each.start_s, each.end_s, each.label) for each in found]


def rounded(found: Iterable[Segment]) -> list[Segment]:
    return [replace(each, probability=round(each.probability, 6)) for each in found]


def walking(*probabilities: float) -> list[tuple[float, float]]:
    """Rows of two labels."""
    return [(probability, 1 - probability) for probability in probabilities]


def test_neighbours_with_the_same_answer_become_one_and_part_between_their_middles() -> None:
    found = segments(windows_of(walking(0.9, 0.7, 0.2, 0.6)))
    assert rounded(found) == [
        Segment(0.0, 5.0, "walking", 0, 0.8),
        Segment(5.0, 7.0, "falling", 1, 0.8),
        Segment(7.0, 10.0, "walking", 0, 0.6),
    ]


def test_windows_without_overlap_part_where_they_touch_and_a_short_last_one_counts() -> None:
    first, second, last = windows_of(walking(0.9, 0.1, 0.9), stride_s=4.0)
    found = segments([first, second, replace(last, end_s=9.0)])
    assert spans(found) == [(0.0, 4.0, "walking"), (4.0, 7.25, "falling"), (7.25, 9.0, "walking")]


def test_one_window_is_one_segment_and_none_are_none() -> None:
    assert spans(segments(windows_of(walking(0.4)))) == [(0.0, 4.0, "falling")]
    assert list(segments([])) == []


def test_equal_probabilities_are_the_first_label_as_in_an_answer() -> None:
    [window] = windows_of(walking(0.5))
    assert [each.label for each in segments([window])] == [window.prediction.ranked[0].label] == ["walking"]


def test_a_segment_opens_at_the_threshold_and_closes_below_half_of_it() -> None:
    rows = [(p, 0.3, 0.0) for p in (0.59, 0.6, 0.3, 0.31, 0.29, 0.31, 0.6)]
    found = list(segments(windows_of(rows), threshold=0.6))
    assert spans(found) == [(3.0, 9.0, "walking"), (13.0, 16.0, "walking")]
    assert found[0].probability == pytest.approx((0.6 + 0.3 + 0.31) / 3)


def test_another_answer_takes_over_at_the_threshold_alone() -> None:
    rows = [(0.7, 0.3), (0.45, 0.55), (0.7, 0.3), (0.35, 0.65), (0.45, 0.55)]
    found = list(segments(windows_of(rows), threshold=0.6))
    assert spans(found) == [(0.0, 7.0, "walking"), (7.0, 12.0, "falling")]
    assert found[0].probability == pytest.approx((0.7 + 0.45 + 0.7) / 3)


def test_without_a_threshold_every_moment_has_a_segment() -> None:
    rows = np.random.default_rng(0).dirichlet((1, 1, 1), 50)
    found = list(segments(windows_of(map(tuple, rows)), switching_cost=0))
    assert [each.end_s for each in found[:-1]] == [each.start_s for each in found[1:]]
    assert (found[0].start_s, found[-1].end_s) == (0.0, 102.0)
    assert len(found) > 10


def test_shorter_segments_are_left_out() -> None:
    rows = walking(0.9, 0.9, 0.1, 0.9, 0.1, 0.1)
    assert spans(segments(windows_of(rows), min_duration=2.0)) == [
        (0.0, 5.0, "walking"),
        (5.0, 7.0, "falling"),
        (7.0, 9.0, "walking"),
        (9.0, 14.0, "falling"),
    ]
    assert spans(segments(windows_of(rows), min_duration=2.1)) == [(0.0, 5.0, "walking"), (9.0, 14.0, "falling")]
    # 0.1 + 0.2 is more than 0.3, by a rounding error
    assert len(list(segments(windows_of(walking(0.9), length_s=0.3), min_duration=0.1 + 0.2))) == 1


def test_the_answer_changes_where_it_is_worth_the_cost() -> None:
    # In the middle lies a part of 2 s with a label that is e to the power of 0.9 times as probable: worth 1.8, for two
    # changes.
    middle = 1 / (1 + np.exp(0.9))
    rows = walking(0.9, 0.9, middle, 0.9, 0.9)
    assert spans(segments(windows_of(rows), switching_cost=0.89)) == [
        (0.0, 5.0, "walking"),
        (5.0, 7.0, "falling"),
        (7.0, 12.0, "walking"),
    ]
    found = list(segments(windows_of(rows), switching_cost=0.91))
    assert spans(found) == [(0.0, 12.0, "walking")]
    assert found[0].probability == pytest.approx((4 * 0.9 + middle) / 5)
    assert len(list(segments(windows_of(rows)))) == 3  # 0.5 s is the default
    assert len(list(segments(windows_of(walking(0.9, 0.9, 1 / (1 + np.exp(0.45)), 0.9, 0.9))))) == 1
    # It counts seconds, not windows.
    longer = windows_of(rows, length_s=8.0, stride_s=4.0)
    assert len(list(segments(longer, switching_cost=1.79))) == 3
    longer = windows_of(rows, length_s=8.0, stride_s=4.0)
    assert len(list(segments(longer, switching_cost=1.81))) == 1


def test_where_the_answer_is_kept_the_threshold_counts_for_it() -> None:
    rows = [(0.9, 0.1, 0.0), (0.2, 0.3, 0.0), (0.9, 0.1, 0.0)]
    assert spans(segments(windows_of(rows), threshold=0.4)) == [(0.0, 8.0, "walking")]
    assert spans(segments(windows_of(rows), threshold=0.5)) == [(0.0, 3.0, "walking"), (5.0, 8.0, "walking")]


def test_what_is_impossible_is_not_passed_over() -> None:
    found = segments(windows_of(walking(0.0, 1.0, 0.0)), switching_cost=5)
    assert [each.label for each in found] == ["falling", "walking", "falling"]


def test_none_of_these_ends_a_segment_and_is_left_out() -> None:
    rows = [(0.8, 0.1, 0.1), (0.35, 0.05, 0.6), (0.8, 0.1, 0.1), (0.1, 0.2, 0.7)]
    found = segments(windows_of(rows, none_index=2), switching_cost=0)
    assert spans(found) == [(0.0, 3.0, "walking"), (5.0, 7.0, "walking")]
    # Below the threshold it ends nothing, as no label does.
    found = segments(windows_of(rows, none_index=2), threshold=0.65)
    assert spans(found) == [(0.0, 7.0, "walking")]


def test_labels_that_are_scored_by_themselves_have_segments_of_their_own() -> None:
    rows = [(0.9, 0.2, 0.9), (0.8, 0.7, 0.9), (0.1, 0.3, 0.9), (0.1, 0.2, 0.9), (0.6, 0.6, 0.9)]
    found = segments(windows_of(rows, none_index=2, is_multi_label=True))
    assert rounded(found) == [
        Segment(0.0, 5.0, "walking", 0, 0.85),
        Segment(3.0, 7.0, "falling", 1, 0.5),
        Segment(9.0, 12.0, "walking", 0, 0.6),
        Segment(9.0, 12.0, "falling", 1, 0.6),
    ]
    found = segments(windows_of(rows, none_index=2, is_multi_label=True), threshold=0.75)
    assert spans(found) == [(0.0, 5.0, "walking")]


def test_segments_come_by_their_beginnings_though_a_longer_one_ends_later() -> None:
    rows = [(0.9, 0.1), (0.9, 0.9), (0.9, 0.1), (0.9, 0.9), (0.1, 0.1), (0.1, 0.9)]
    found = spans(segments(windows_of(rows, is_multi_label=True)))
    assert found == [(0.0, 9.0, "walking"), (3.0, 5.0, "falling"), (7.0, 9.0, "falling"), (11.0, 14.0, "falling")]


def test_a_segment_is_there_as_soon_as_its_end_is_known() -> None:
    taken = []

    def watched() -> Iterator[Window]:
        for window in windows_of(walking(0.9, 0.9, 0.1, 0.1, 0.9)):
            taken.append(window)
            yield window

    found = segments(watched(), switching_cost=0)
    assert taken == []
    next(found)
    assert len(taken) == 5  # the part of the third ends with the fourth, and its answer is known with that one's part
    assert spans(islice(found, 1)) == [(5.0, 9.0, "falling")]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf"), "0.5"])
def test_a_threshold_is_a_probability(threshold: Any) -> None:
    with pytest.raises(ActionClipError, match=r"the threshold is .*: give a probability from 0 to 1"):
        segments([], threshold=threshold)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), None])
def test_a_duration_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ActionClipError, match=r"the shortest duration is .*: give a number of seconds from 0"):
        segments([], min_duration=seconds)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1"])
def test_a_switching_cost_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ActionClipError, match=r"the switching cost is .*: give a number of seconds from 0"):
        segments([], switching_cost=seconds)


def test_labels_that_are_scored_by_themselves_have_no_switching_cost() -> None:
    found = segments(windows_of(walking(0.9), is_multi_label=True), switching_cost=1)
    with pytest.raises(ActionClipError, match="scored each by itself have no switching cost: leave it out"):
        list(found)


def test_other_things_than_windows_are_named() -> None:
    with pytest.raises(ActionClipError, match=r"the windows are a int: give what timeline\(\) returns"):
        segments(3)  # type: ignore[arg-type]
    with pytest.raises(ActionClipError, match=r"a window is a tuple: give what timeline\(\) returns"):
        list(segments([(0, 1)]))  # type: ignore[list-item]


@pytest.mark.parametrize("changes", [{"video": "b.mp4"}, {"labels": ("walking", "running")}])
def test_windows_are_of_one_video_in_order(changes: dict[str, Any]) -> None:
    first, second = windows_of(walking(0.9, 0.8))
    other = replace(second, prediction=replace(second.prediction, **changes))
    for windows in ([first, other], [second, first], [first, first]):
        with pytest.raises(ActionClipError, match="give the windows of one video, in order"):
            list(segments(windows))


def test_as_a_dictionary_its_times_are_round() -> None:
    assert list(Segment(0.1 + 0.2, 1.0, "walking", 0, 0.5).to_dict().items()) == [
        ("start_s", 0.3),
        ("end_s", 1.0),
        ("label", "walking"),
        ("index", 0),
        ("probability", 0.5),
    ]


def test_what_happens_is_known_at_once_and_changes_where_it_is_worth_the_cost() -> None:
    windows = list(windows_of(walking(0.9, 0.9, 0.45, 0.9, 0.1, 0.1)))
    given: list[Window] = []

    def one_by_one() -> Iterator[Window]:
        for window in windows:
            given.append(window)
            yield window

    for number, (window, _) in enumerate(happening(one_by_one()), start=1):
        assert window is windows[number - 1]
        assert len(given) == number
    assert [now for _, now in happening(windows)] == [(0,), (0,), (0,), (0,), (1,), (1,)]
    assert [now for _, now in happening(windows, switching_cost=0)] == [(0,), (0,), (1,), (0,), (1,), (1,)]


def test_what_happens_begins_at_the_threshold_and_may_be_nothing_or_none_of_these() -> None:
    windows = list(windows_of([(0.5, 0.3, 0.2), (0.8, 0.1, 0.1), (0.45, 0.35, 0.2), (0.35, 0.3, 0.35), (0, 0, 1)]))
    found = [now for _, now in happening(windows, threshold=0.8, switching_cost=0)]
    assert found == [(), (0,), (0,), (), (2,)]


def test_several_labels_happen_where_each_is_scored_by_itself() -> None:
    windows = windows_of([(0.9, 0.1), (0.9, 0.8), (0.3, 0.6)], is_multi_label=True)
    assert [now for _, now in happening(windows)] == [(0,), (0, 1), (0, 1)]


def test_segments_do_not_last_through_an_interruption() -> None:
    before, after = windows_of(walking(0.9, 0.9)), windows_of(walking(0.9, 0.9, 0.2))
    later = [replace(window, start_s=window.start_s + 20, end_s=window.end_s + 20) for window in after]
    found = segments([*before, *later], switching_cost=0)
    assert spans(found) == [(0, 6, "walking"), (20, 25, "walking"), (25, 28, "falling")]
