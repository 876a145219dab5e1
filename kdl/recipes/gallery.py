"""All recipes in a row, and the page that shows what came out: `kdl train --all --out docs`.

Each recipe runs in a process of its own, so that one that fails leaves the others alone.
"""
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from kdl import recipes


def train_all(out):
    """Train every recipe into <out>/gallery/<name> and write <out>/gallery.md; exit code 1 if one misses its gate."""
    out = Path(out)
    failed = []
    for name in recipes.names():
        print(f"--- {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", "kdl", "train", name, "--out", str(out / "gallery" / name)])
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode:
            failed.append(name)
    write(out)
    print(f"wrote {out / 'gallery.md'}")
    if failed:
        print(f"kdl: below the gate, or failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def write(out):
    """gallery.md: a table of all results that are there, then every recipe's text and pictures."""
    rows, sections = [], []
    for recipe in recipes.names():
        file = Path(out) / "gallery" / recipe / "result.json"
        if not file.exists():
            continue
        result = json.loads(file.read_text())
        summary, _, text = importlib.import_module(f"kdl.recipes.{recipe}").__doc__.strip().partition("\n")
        metric = result["metric"]
        gates = " and ".join(f"{relation} {bound:g}" for name, relation, bound in result["gates"] if name == metric)
        baseline = "" if result["baseline"] is None else f"{result['baseline']:.3f}"
        passed = "yes" if result["passed"] else "**no**"
        rows.append(f"| [{recipe}](#{recipe}) | {metric} | {result['measured'][metric]:.3f} | {baseline} "
                    f"| {gates} | {passed} | {result['seconds']:.0f} |")
        pictures = "\n\n".join(f"![{p['title']}](gallery/{recipe}/{p['file']})" for p in result["pictures"])
        sections.append(f"## {recipe}\n\n{summary}\n\n{text.strip()}\n\n{pictures}\n")
    page = "\n".join([
        "# Gallery", "",
        "Every recipe with seed 0, as `kdl train --all --out docs` leaves it: table and pictures are its output.", "",
        "| recipe | metric | value | baseline | gate | passed | seconds |", "|---|---|---|---|---|---|---|",
        *rows, "", *sections])
    partial = Path(out) / ".gallery.md.partial"
    partial.write_text(page)
    os.replace(partial, Path(out) / "gallery.md")
