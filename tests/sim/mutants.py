"""Plants bugs into the production code, one after the other, and says after how many seeds the simulation finds each.

    python3 tests/sim/mutants.py             plays up to 2,000 seeds against each; `make sim-mutants`
    python3 tests/sim/mutants.py lease       those with "lease" in their names
    python3 tests/sim/mutants.py --check     only whether every patch still applies; a part of `make check`

In: the patches in mutants/, each of which begins with a sentence that says what it breaks. Out: a row of a table for
each, and exit status 1 if one was not found. Guarantees: the checkout is not touched; all of them share one copy of it
and one build directory in target/sim-mutants, so that each costs an incremental build of a few crates.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).resolve().parent / "mutants"
SCRATCH = REPOSITORY / "target" / "sim-mutants"
SEEDS_MAX = 2000
# Lines of a failing run that are kept: it ends with what was found.
KEPT_LINES = 60


@dataclass(frozen=True)
class Mutant:
    patch: Path

    @property
    def name(self) -> str:
        return self.patch.stem

    @property
    def breaks(self) -> str:
        """What stands before its diff: a sentence."""
        return " ".join(self.patch.read_text().split("\ndiff --git", 1)[0].split())

    @property
    def files(self) -> list[str]:
        return re.findall(r"^\+\+\+ b/(.+)$", self.patch.read_text(), re.MULTILINE)

    def applies(self) -> bool:
        return _git_apply(REPOSITORY, self.patch, "--check").returncode == 0


@dataclass(frozen=True)
class Found:
    """`seeds` is None if no seed found it, or if the seed that did is not known."""

    seeds: int | None
    by: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="mutants.py", description="Plants bugs and has the simulation find them.")
    parser.add_argument("names", nargs="*", help="parts of the names of patches; without any, all")
    parser.add_argument("--check", action="store_true", help="only whether every patch still applies")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="most seeds that are played against each")
    options = parser.parse_args()
    mutants = [Mutant(patch) for patch in sorted(PATCHES.glob("*.patch"))]
    mutants = [one for one in mutants if not options.names or any(part in one.name for part in options.names)]
    stale = [one.name for one in mutants if not one.applies() or not one.breaks.endswith(".")]
    if stale or not mutants:
        sys.exit(f"error: these patches do not apply, or do not begin with a sentence: {', '.join(stale) or 'none'}")
    if not options.check:
        _find_all(mutants, options.seeds)


def _find_all(mutants: list[Mutant], seeds_max: int) -> None:
    tree = SCRATCH / "tree"
    _copy_checkout(tree)
    survivors = []
    print("| Planted bug | What it breaks | Seeds | Found by |\n|---|---|---|---|", flush=True)
    for mutant in mutants:
        with _planted(mutant, tree):
            found = _find(tree, seeds_max)
        if found is None:
            survivors.append(mutant.name)
        seeds, by = ("none", "") if found is None else (found.seeds or "?", found.by)
        print(f"| {mutant.name} | {mutant.breaks} | {seeds} | {by} |", flush=True)
    if survivors:
        sys.exit(f"error: not found within {seeds_max} seeds: {', '.join(survivors)}")


def _copy_checkout(tree: Path) -> None:
    """Brings the copy to the checkout's state; what is the same keeps its time, so that it is not built again."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    names = {name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()}
    for old in tree.rglob("*"):
        if old.is_file() and str(old.relative_to(tree)) not in names:
            old.unlink()
    for name in names:
        source, copy = REPOSITORY / name, tree / name
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


@contextmanager
def _planted(mutant: Mutant, tree: Path) -> Iterator[None]:
    applied = _git_apply(tree, mutant.patch)
    if applied.returncode != 0:
        sys.exit(f"error: {mutant.name} does not apply: {applied.stderr}")
    try:
        yield
    finally:
        for name in mutant.files:
            shutil.copyfile(REPOSITORY / name, tree / name)


def _git_apply(directory: Path, patch: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # The copy is in the checkout, and would be taken for a part of it.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(directory.parent)}
    command = ["git", "apply", *options, str(patch)]
    return subprocess.run(command, cwd=directory, env=environment, check=False, capture_output=True, text=True)


def _find(tree: Path, seeds_max: int) -> Found | None:
    test = _build(tree)
    settings = {
        "ORDERFLOW_SEED": "1",
        "ORDERFLOW_SEEDS": str(seeds_max),
        "ORDERFLOW_ONCE": "1",
        "ORDERFLOW_EXPLAIN": "0",
        "RUST_BACKTRACE": "0",
    }
    begun = time.monotonic()
    run = subprocess.Popen(
        [str(test), "whatever_goes_wrong", "--nocapture"],
        cwd=tree / "tests" / "sim",
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert run.stdout is not None
    # Metrics are JSON, a line each.
    lines = deque((line.rstrip() for line in run.stdout if not line.startswith("{")), KEPT_LINES)
    if run.wait() == 0:
        return None
    print(f"{time.monotonic() - begun:.0f} s", *lines, sep="\n    ", file=sys.stderr, flush=True)
    text = "\n".join(lines)
    seed = re.search(r"seed (\d+):", text)
    cause = re.search(r"Caused by:\n(.+?)(?:\n\S|\n\n|\Z)", text, re.DOTALL)
    by = " ".join((cause.group(1) if cause else text).split())
    return Found(int(seed.group(1)) if seed else None, by[:300].replace("|", "/"))


def _build(tree: Path) -> Path:
    """Builds the test of the seeds; its executable."""
    environment = {"CARGO_TARGET_DIR": str(SCRATCH / "build"), **os.environ}
    command = ["cargo", "test", "--package", "sim", "--test", "seeds", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=tree, env=environment, check=False, capture_output=True, text=True)
    if built.returncode != 0:
        messages = (json.loads(line).get("message", {}) for line in built.stdout.splitlines() if line.startswith("{"))
        said = [message["rendered"] for message in messages if isinstance(message, dict) and "rendered" in message]
        sys.exit(f"error: it does not build\n{''.join(said)}{built.stderr}")
    for line in built.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["target"]["name"] == "seeds":
            return Path(message["executable"])
    sys.exit("error: cargo has built no test of seeds")


if __name__ == "__main__":
    main()
