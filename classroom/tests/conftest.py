"""Fixtures that the classroom's tests share."""

from pathlib import Path

import pytest
import skeleton as builder


@pytest.fixture(scope="session")
def skeleton(tmp_path_factory) -> Path:
    """A folder with what students get; not to be changed."""
    out = tmp_path_factory.mktemp("skeleton")
    builder.write_skeleton(out)
    return out
