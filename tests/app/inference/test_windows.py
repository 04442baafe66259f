"""Windows, whatever the length and the overlap."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.inference.windows import count_rows, count_windows, plan_windows

lengths = st.integers(1, 6000)
# Tokens that neighbours share, and those of a window.
cuts = st.sampled_from([510, 1022]).flatmap(
    lambda most: st.tuples(st.integers(0, most - 1), st.just(most))
)


@given(lengths, cuts)
def test_every_token_belongs_to_exactly_one_window_that_holds_it(n_tokens, cut):
    windows = plan_windows(n_tokens, *cut)

    owned = [t for w in windows for t in range(w.own_first, w.own_end)]

    assert owned == list(range(n_tokens))
    assert all(w.first <= w.own_first < w.own_end <= w.end for w in windows)


@given(lengths, cuts)
def test_windows_are_full_and_neighbours_share_the_overlap(n_tokens, cut):
    overlap, most = cut
    windows = plan_windows(n_tokens, *cut)

    assert all(w.end - w.first == most for w in windows[:-1])
    assert 1 <= windows[-1].end - windows[-1].first <= most
    assert [a.end - b.first for a, b in pairwise(windows)] == [overlap] * (len(windows) - 1)
    assert (windows[0].first, windows[-1].end) == (0, n_tokens)


@given(lengths, cuts.filter(lambda cut: 2 * cut[0] <= cut[1]))
def test_a_shared_token_belongs_to_the_window_where_it_has_more_context(n_tokens, cut):
    windows = plan_windows(n_tokens, *cut)
    for left, right in pairwise(windows):
        for token in range(right.first, left.end):
            in_left, in_right = left.end - 1 - token, token - right.first
            owner = left if left.own_first <= token < left.own_end else right
            assert owner is (left if in_left >= in_right else right)


@given(lengths, cuts)
def test_counts_agree_with_the_plan(n_tokens, cut):
    windows = plan_windows(n_tokens, *cut)

    assert count_windows(n_tokens, *cut) == len(windows)
    assert count_rows(n_tokens, *cut) == sum(w.n_tokens for w in windows)


def test_an_example_by_hand():
    windows = plan_windows(1000, 110, 510)

    assert [(w.first, w.end, w.own_first, w.own_end) for w in windows] == [
        (0, 510, 0, 455),
        (400, 910, 455, 855),
        (800, 1000, 855, 1000),
    ]
