import itertools

import numpy as np
import pytest

from noise2pose.reports.significance import FEWEST, compare, holm


def people(*errors):
    return {f"person_{i}": error for i, error in enumerate(errors)}


def test_p_is_the_share_of_signs_that_are_as_uneven():
    generator = np.random.default_rng(0)
    first, second = generator.normal(100, 10, 8), generator.normal(96, 10, 8)
    found = compare({0: people(*first)}, {0: people(*second)})
    differences = first - second
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    total = ranks.sum()

    def unevenness(signs):
        positive = ranks[np.array(signs) > 0].sum()
        return max(positive, total - positive)

    as_seen = unevenness(np.sign(differences))
    signs = list(itertools.product((-1, 1), repeat=8))
    assert found is not None and found.people == 8
    assert found.difference == pytest.approx(differences.mean())
    assert found.p == pytest.approx(np.mean([unevenness(s) >= as_seen for s in signs]))


def test_people_are_compared_within_seeds_and_their_seeds_averaged():
    row = {0: people(*range(10, 18)), 1: people(*range(20, 28)), 2: people(*[0.0] * 8)}
    reference = {0: people(*range(9, 17)), 1: people(*range(17, 25))}  # one more, and three more
    found = compare(row, reference)
    assert found is not None and (found.difference, found.people) == (2.0, 8)
    assert found.p == pytest.approx(2 / 2**8)


def test_without_a_difference_or_enough_people_nothing_is_significant():
    equal = {0: people(*[50.0] * FEWEST)}
    same = compare(equal, equal)
    assert same is not None and (same.difference, same.p) == (0.0, 1.0)
    assert compare({0: people(*[50.0] * (FEWEST - 1))}, equal) is None
    assert compare({1: people(*[50.0] * FEWEST)}, equal) is None


def test_holm_multiplies_the_smallest_by_all_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []
