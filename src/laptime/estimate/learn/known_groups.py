"""What is known of groups: the features that are constant within each, and which groups they can't tell apart."""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.data.stats import Ints
from laptime.estimate.table.table import Encoded


class Known(msgspec.Struct, frozen=True):
    """What is known of a group: the numeric features that are constant within every group, and their values seen."""

    columns: list[int]
    values: list[list[float]]


def known_of_groups(rows: Encoded, groups: Ints) -> tuple[Known, Ints]:
    """What is known of each group, and the kind of each group: groups of which the same is known are one kind.

    Without any feature that is constant within every group each group is a kind of its own.
    """
    count = int(groups.max()) + 1
    first = np.array([np.argmax(groups == group) for group in range(count)])
    table = rows.numeric
    columns = [i for i in range(table.shape[1]) if (table[:, i] == table[first[groups], i]).all()] if count > 1 else []
    codes = [i for i in range(rows.codes.shape[1]) if (rows.codes[:, i] == rows.codes[first[groups], i]).all()]
    if not columns and not codes:
        return Known([], []), np.arange(count)
    facts = np.column_stack([table[first][:, columns], rows.codes[first][:, codes]])
    _, kinds = np.unique(facts, axis=0, return_inverse=True)
    values = np.unique(table[first][:, columns], axis=0)
    return Known(columns, values.tolist() if columns else []), kinds.reshape(-1).astype(np.int64)
