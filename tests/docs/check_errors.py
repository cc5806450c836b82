#!/usr/bin/env python3
"""Holds docs/errors.md equal to the list in base/error.h: the same reasons in the same order, each with its code, a cause and a fix."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def screaming(camel):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", camel).upper()


def from_header(text):
    return [(reason, screaming(code)) for code, reason in re.findall(r"^\s*X\((\w+), (\w+)\)", text, re.MULTILINE)]


def from_page(text):
    rows, problems = [], []
    for line in text.splitlines():
        if not line.startswith("| `"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 4 or not all(cells):
            problems.append(f"this row should have reason, code, cause and fix: {line}")
            continue
        rows.append((cells[0].strip("`"), cells[1]))
    return rows, problems


def main():
    listed = from_header((ROOT / "base/error.h").read_text(encoding="utf-8"))
    rows, problems = from_page((ROOT / "docs/errors.md").read_text(encoding="utf-8"))
    if len(listed) < 10:
        problems.append("base/error.h: found no list of reasons: has SCONCE_REASONS moved?")
    for reason, code in listed:
        if (reason, code) not in rows:
            problems.append(f"docs/errors.md lacks {reason} ({code})")
    for row in rows:
        if row not in listed:
            problems.append(f"docs/errors.md has {row[0]} ({row[1]}), which base/error.h has not")
    if not problems and rows != listed:
        moved = next(a for a, b in zip(rows, listed) if a != b)
        problems.append(f"docs/errors.md has its rows in another order than base/error.h, from {moved[0]} on")
    for problem in problems:
        print(problem)
    print(f"errors: {len(listed)} reasons, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
