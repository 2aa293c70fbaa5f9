"""Change what computes results, one place at a time, and count what tests notice: ``python -m benchmarks.mutation``.

It runs mutmut (``pip install -e ".[mutation]"``; its settings are in pyproject.toml) and goes on where an earlier run
stopped: results are kept in the folder ``mutants``, remove it to start again. Then it prints a table of files, and what
survived. `mutation_survivors.yaml` gives the reason of each survivor; "equivalent" ones compute the same, and do not
count. The exit code is 1 if fewer than 90 % of the others are killed, or if a survivor has no reason.

    python -m benchmarks.mutation              # everything that was not tried yet, on one core
    python -m benchmarks.mutation --survivors  # what survived, once more, after tests were added
    python -m benchmarks.mutation --no-run     # only the table
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

MUTANTS = Path("mutants")
REASONS = Path(__file__).with_name("mutation_survivors.yaml")
NEEDED = 0.9
OUTCOMES = {None: "not tried", 0: "survived", 1: "killed", 3: "killed", 5: "no tests", 33: "no tests"}
SURVIVED = ("survived", "no tests")
TIMEOUTS = (-24, 24, 36, 152, 255)  # of CPU time: the change makes a loop endless, or a test much longer


@dataclass(frozen=True)
class Mutant:
    """One changed place and what became of it."""

    file: str
    function: str
    key: str
    outcome: str

    @property
    def name(self) -> str:
        """The name of the changed function in the mutated file."""
        return self.key.rpartition(".")[2]


def read_mutants() -> Iterator[Mutant]:
    """Yield every mutant that was generated."""
    for meta in sorted(MUTANTS.rglob("*.py.meta")):
        file = str(meta.relative_to(MUTANTS)).removesuffix(".meta")
        for key, code in json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            outcome = "killed" if code in TIMEOUTS else OUTCOMES.get(code, f"exit code {code}")
            function = re.sub(r"^x_?|__mutmut_\d+$", "", key.rpartition(".")[2]).strip("ǁ").replace("ǁ", ".")
            yield Mutant(file=file, function=function, key=key, outcome=outcome)


def change(mutant: Mutant, functions: dict[str, ast.FunctionDef]) -> str:
    """Return the lines that a mutant changes, as ``old -> new``; formatting aside."""
    stem = re.sub(r"\d+$", "", mutant.name)
    both = (functions[name] for name in (f"{stem}orig", mutant.name))
    before, after = ([ast.unparse(f.args), *ast.unparse(f.body).splitlines()] for f in both)  # type: ignore[arg-type]
    lines = list(difflib.ndiff(before, after))
    old, new = ("; ".join(line[2:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return f"{old} -> {new}"


def read_functions(file: str) -> dict[str, ast.FunctionDef]:
    """Return the functions and methods of a mutated file by name."""
    tree = ast.parse((MUTANTS / file).read_text(encoding="utf-8"))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def read_reasons() -> tuple[dict[str, str], set[str]]:
    """Return the reason of each accepted survivor, and those that are equivalent."""
    reasons, equivalent = {}, set()
    for group in yaml.safe_load(REASONS.read_text(encoding="utf-8")) if REASONS.exists() else []:
        for mutant in group["mutants"]:
            reasons[mutant] = group["reason"]
            if group["equivalent"]:
                equivalent.add(mutant)
    return reasons, equivalent


def report() -> bool:
    """Print the table and the survivors; return whether all is well."""
    reasons, equivalent = read_reasons()
    by_file: dict[str, Counter[str]] = {}
    unexplained, found = [], set()
    functions: dict[str, dict[str, ast.FunctionDef]] = {}
    for mutant in read_mutants():
        outcome = mutant.outcome
        if outcome in SURVIVED:
            file = functions.setdefault(mutant.file, read_functions(mutant.file))
            key = f"{mutant.file} {mutant.function}: {change(mutant, file)}"
            found.add(key)
            if key in equivalent:
                outcome = "equivalent"
            elif key not in reasons:
                unexplained.append(key)
        by_file.setdefault(mutant.file, Counter())[outcome] += 1
    columns = ["killed", "survived", "equivalent", "no tests", "not tried"]
    columns += sorted({name for counts in by_file.values() for name in counts} - {*columns})
    total: Counter[str] = sum(by_file.values(), Counter())
    print("| file | mutants | " + " | ".join(columns) + " |\n|---" + "|--:" * (len(columns) + 1) + "|")
    for name, counts in [*by_file.items(), ("all", total)]:
        print(f"| {name} | {counts.total()} | " + " | ".join(str(counts[column]) for column in columns) + " |")
    tried = total.total() - total["not tried"] - total["equivalent"]
    share = total["killed"] / max(tried, 1)
    print(f"\nkilled: {total['killed']} of {tried} that were tried and are not equivalent, {100 * share:.1f} %")
    for title, keys in (("without a reason", unexplained), ("reasons of nothing", sorted(reasons.keys() - found))):
        print(*([f"\n{title}:"] if keys else []), *(json.dumps(key, ensure_ascii=False) for key in keys), sep="\n- ")
    return share >= NEEDED and not unexplained and not total["not tried"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-run", action="store_true", help="only report what an earlier run found")
    parser.add_argument("--survivors", action="store_true", help="try again what survived")
    parser.add_argument("--jobs", default="1", help="processes (1); a core each")
    arguments = parser.parse_args()
    if not arguments.no_run:
        chosen = [mutant.key for mutant in read_mutants() if mutant.outcome in SURVIVED] if arguments.survivors else []
        mutmut = Path(sys.executable).with_name("mutmut")
        subprocess.run([mutmut, "run", "--max-children", arguments.jobs, *chosen], check=True)
    sys.exit(not report())


if __name__ == "__main__":
    main()
