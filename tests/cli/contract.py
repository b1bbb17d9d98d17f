"""What docs/cli.md promises of the documents that ``--json`` prints."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def contract(heading: str) -> set[str]:
    """The keys that the page states in the table under a heading."""
    section = DOCS.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE))
