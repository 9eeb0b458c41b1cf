"""Tests that need a GPU: skipped by name where there is none, so that nobody takes them for passed."""

import pytest
import torch


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU; there is none here"))


@pytest.fixture(scope="session")
def cuda():
    return torch.device("cuda", 0)
