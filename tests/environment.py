"""What `make` leaves in the environment."""

import os

import pytest


def from_environment(name):
    """A setting that make leaves in the environment."""
    value = os.environ.get(name)
    if not value:
        pytest.exit(f"{name} is not set; run the tests with: make test", returncode=1)
    return value
