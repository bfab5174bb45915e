"""Write a target's seeds into DIRECTORY/corpus, and how long an input may be into DIRECTORY/longest."""

from __future__ import annotations

import sys
from pathlib import Path

from targets import TARGETS


def main(name: str, into: Path) -> None:
    """A file a seed."""
    target = TARGETS[name]
    corpus = into / "corpus"
    corpus.mkdir(parents=True)
    seeds = target.seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"{number:04}").write_bytes(seed)
    (into / "longest").write_text(str(max([target.longest, *map(len, seeds)])))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
