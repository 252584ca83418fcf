"""Whatever is compiled into the extension may be used under a permissive licence."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Names of https://spdx.org/licenses/ under which a dependency may come.
ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}


def is_allowed(expression):
    """Whether an SPDX expression leaves a choice of allowed licences. A slash is the old way to write OR."""
    # Nothing of the expression is left but True, False, and, or and brackets; AND binds tighter than OR in both languages.
    parts = re.findall(r"\(|\)|\bAND\b|\bOR\b|/|[^\s()/]+(?: WITH [^\s()/]+)?", expression)
    words = {"(": "(", ")": ")", "AND": "and", "OR": "or", "/": "or"}
    return eval(" ".join(words.get(part, str(part in ALLOWED)) for part in parts), {})


@pytest.mark.parametrize(
    "expression, allowed",
    [
        ("MIT", True),
        ("MIT/Apache-2.0", True),
        ("MIT OR GPL-3.0-only", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("(MIT OR GPL-3.0-only) AND Unicode-3.0", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ],
)
def test_expressions_are_read_as_spdx_means_them(expression, allowed):
    assert is_allowed(expression) is allowed


def test_every_dependency_has_an_allowed_licence():
    described = subprocess.run(
        ["cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--all-features"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    packages = json.loads(described.stdout)["packages"]
    refused = {p["name"]: p["license"] for p in packages if not is_allowed(p["license"] or "none")}
    assert packages and not refused
