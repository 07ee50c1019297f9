"""``make faults``: attacks of every kind, seeded, counted, and written down.

From the root: ``python tests/faults/run.py [--cases 0.1] [--only kills_at_files]``.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import damage
import hands
import kills
from tiny import Bench

from wmlib.checkpoints import versions, write_json

REPORT = Path(__file__).with_name("report.json")
# How many cases of each there are in a whole run.
CAMPAIGNS: dict[Callable[[Bench, int], Iterator[kills.Case]], int] = {
    kills.kills_at_files: 600,
    kills.kills_at_any_instant: 400,
    damage.physical: 270,
    damage.content: 240,
    damage.malicious: 90,
    damage.full_disk: 60,
    damage.nan: 30,
    hands.signals: 75,
    hands.workers: 80,
    hands.orphans: 20,
    hands.two_at_once: 40,
    hands.command_line: 110,
}


def run(cases: float = 1.0, only: list[str] | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Run the campaigns; print what went wrong, and a row for each.

    Args:
        cases: How much of a whole run.
        only: Names of campaigns; all by default.
        seed: Of the random choices.
    """
    rows = []
    for campaign, count in CAMPAIGNS.items():
        if only and campaign.__name__ not in only:
            continue
        bench, began, wrong = Bench(seed), time.perf_counter(), Counter[str]()
        total = 0
        try:
            for name, problem in campaign(bench, max(1, round(count * cases))):
                total += 1
                if problem:
                    wrong[name] += 1
                    print(f"  {name}: {problem.strip()[-300:]}", flush=True)
            for line, said in list(bench.said.items())[:30]:
                print(f"  $ wmlib {line}\n  {said[:200]}")
        finally:
            bench.close()
        rows.append({
            "campaign": campaign.__name__, "cases": total, "violations": wrong.total(),
            "seed": seed, "seconds": round(time.perf_counter() - began, 1),
        })  # fmt: skip
        row = rows[-1]
        print(f"{row['campaign']:22s}{total:6d} cases{row['violations']:5d} violations"
              f"{row['seconds']:9.1f} s", flush=True)  # fmt: skip
    return rows


def main() -> int:
    """The command line; 1 if anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=float, default=1.0, help="share of a whole run")
    parser.add_argument("--only", nargs="*", help="names of campaigns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=REPORT)
    args = parser.parse_args()
    rows = run(args.cases, args.only, args.seed)
    write_json(args.report, {"versions": versions(), "rows": rows})
    return int(any(row["violations"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
