"""No circle of imports anywhere in laptime, also not between two files of one folder."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp


def test_no_imports_form_a_circle():
    graph = grimp.build_graph("laptime", cache_dir=None, exclude_type_checking_imports=True)
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as circle:
        raise AssertionError(" -> ".join(circle.args[1])) from None
