"""Paired comparisons of rows over people."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

FEWEST = 6  # people with whom the signed-rank test can reach 0.05


class Comparison(NamedTuple):
    """What a row has more than another.

    Attributes:
        difference: mean over people, of people seen in several seeds of their mean.
        p: of Wilcoxon's signed-rank test, two-sided.
        people: who are in both.
    """

    difference: float
    p: float
    people: int


def compare(row: Mapping[int, Mapping[str, float]], reference: Mapping[int, Mapping[str, float]]) -> Comparison | None:
    """Compares the errors of people, each with the same person's in the same seed.

    Args:
        row: by seed, the error of each person.
        reference: the same of the row to compare with; seeds and people that one of the two lacks do not count.

    Returns:
        None if too few people are in both.
    """
    from scipy import stats  # which the trainings do not need

    differences: dict[str, list[float]] = {}
    for seed in row.keys() & reference.keys():
        for person in row[seed].keys() & reference[seed].keys():
            differences.setdefault(person, []).append(row[seed][person] - reference[seed][person])
    means = [statistics.mean(differences[person]) for person in sorted(differences)]
    if len(means) < FEWEST:
        return None
    result: Any = stats.wilcoxon(means) if any(means) else None
    p = 1.0 if result is None else float(result.pvalue)
    return Comparison(statistics.mean(means), p, len(means))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several comparisons, corrected by Holm (Scandinavian Journal of Statistics, 1979), in their order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def against_first(rows: Sequence[Mapping[str, float]]) -> list[Comparison | None]:
    """Compares each row but the first with the first, over people; p-values are corrected by Holm.

    Args:
        rows: the error of each person.

    Returns:
        None for the first row, and for rows that share too few people with it.
    """
    found = [compare({0: row}, {0: rows[0]}) if row else None for row in rows[1:]]
    corrected = iter(holm([one.p for one in found if one]))
    return [None, *(one._replace(p=next(corrected)) if one else None for one in found)]
