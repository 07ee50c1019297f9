"""``make faults``: attacks of every kind, seeded, counted, and written down.

From the root: ``python tests/faults/run.py [--cases 0.1] [--only kills_at_files] [--resume]``.
The report is written after each campaign, so that one which was stopped goes on with ``--resume``.
"""

import argparse
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import damage
import findings
import hands
import kills
import nodes
from tiny import Bench

from wmlib.checkpoints import read_json, versions, write_json

REPORT = Path(__file__).with_name("report.json")
# How many cases of each there are in a whole run.
CAMPAIGNS: dict[Callable[[Bench, int], Iterator[kills.Case]], int] = {
    kills.kills_at_files: 600,
    kills.kills_at_any_instant: 400,
    findings.findings: len(findings.FINDINGS),
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
    nodes.ray_nodes: 20,
}
Row = dict[str, Any]


def run(campaign: Callable[[Bench, int], Iterator[kills.Case]], cases: int, seed: int) -> Row:
    """Run a campaign; print what went wrong; its row of the report."""
    bench, began, wrong = Bench(seed), time.perf_counter(), Counter[str]()
    total = 0
    try:
        for name, problem in campaign(bench, cases):
            total += 1
            if problem:
                wrong[name] += 1
                print(f"  {name}: {problem.strip()[-300:]}", flush=True)
    except Exception:  # of the campaign's own: the others shall run all the same
        traceback.print_exc()
        wrong["the campaign itself"] += 1
    finally:
        bench.close()
    row = {
        "campaign": campaign.__name__, "cases": total, "violations": wrong.total(),
        "seed": seed, "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    print(f"{row['campaign']:22s}{total:6d} cases{row['violations']:5d} violations"
          f"{row['seconds']:9.1f} s", flush=True)  # fmt: skip
    return row


def main() -> int:
    """The command line; 1 if anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=float, default=1.0, help="share of a whole run")
    parser.add_argument("--only", nargs="*", help="names of campaigns; the report keeps the others")
    parser.add_argument("--resume", action="store_true", help="leave out what the report has whole")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=REPORT)
    args = parser.parse_args()
    rows: dict[str, Row] = {}
    if (args.only or args.resume) and args.report.exists():
        rows = {row["campaign"]: row for row in read_json(args.report, "rows")["rows"]}
    for campaign, count in CAMPAIGNS.items():
        name, cases = campaign.__name__, max(1, round(count * args.cases))
        there = rows.get(name, {"cases": 0, "seed": None})
        whole = there["cases"] >= cases and there["seed"] == args.seed
        if (args.only and name not in args.only) or (args.resume and whole):
            continue
        rows[name] = run(campaign, cases, args.seed)
        order = [rows[known.__name__] for known in CAMPAIGNS if known.__name__ in rows]
        write_json(args.report, {"versions": versions(), "rows": order})
    return int(any(row["violations"] for row in rows.values()))


if __name__ == "__main__":
    raise SystemExit(main())
