"""The book's page on speed, written from the report."""

import json
from pathlib import Path
from typing import Any

from matplotlib.ticker import LogLocator, NullFormatter

from wmlib.show.plots import Plot, canvas

PRODUCT = "the machine's own fp32 product (2048³), in the same operations"
GPU_PRODUCT = "its own fp32 product (8192³), in the same operations"
ABOUT = {
    "agent_evaluation": (
        "CarRacing-v3 driven by the whole agent, a generation in one batch, **in EnvPool**",
        "the reference page's loop **in Gymnasium**: one environment, batch 1, a process per core",
    ),
    "collection": (
        "rollouts played **in EnvPool**, resized to 64×64 and written",
        "the same work **in Gymnasium**, one environment per core",
    ),
    "agent_evaluation_gymnasium": (
        "the same generation in Gymnasium, drawn by our `QuickCarRacing`",
        "the same loop in Gymnasium",
    ),
    "collection_gymnasium": (
        "rollouts played in Gymnasium, drawn by our `QuickCarRacing`, resized and written",
        "the same work in Gymnasium, one environment per core",
    ),
    "vae_training": ("V trained, batch 100, 233 MFLOP a frame", PRODUCT),
    "vae_encoding": ("frames encoded, batch 100, 29.6 MFLOP a frame", PRODUCT),
    "mdrnn_training": ("M trained, batch 100 × 64 steps, 2.3 MFLOP a step", PRODUCT),
    "dream": ("1,024 dreams side by side: M, sampling and C, 0.76 MFLOP a step", PRODUCT),
    "reading": (
        "shuffled frames from files that the system holds in memory",
        "the rate at which V trains",
    ),
    "first_action": ("import, load the shipped agent, act once, in a new process", "–"),
    "vae_training_gpu": ("V trained on a GPU", GPU_PRODUCT),
    "vae_encoding_gpu": ("frames encoded on a GPU", GPU_PRODUCT),
    "dream_gpu": ("1,024 dreams on a GPU", GPU_PRODUCT),
}

# Title, label of x, what the cost is and its unit, label of the rate, and what to know about it.
CURVES = {
    "population": (
        "A generation in the world",
        "candidates",
        "seconds per generation",
        "steps per second",
        "Each candidate plays one episode of 100 steps. A fuller batch uses the machine better: "
        "what a batch costs in itself is paid once for all rows.",
    ),
    "dream_rows": (
        "A step of all dreams",
        "dreams side by side",
        "seconds per step",
        "steps per second",
        "M, its sampling and a controller for each row, in one program.",
    ),
    "rollouts": (
        "Reading shuffled frames",
        "rollouts on disk",
        "gigabytes of memory",
        "frames per second",
        "The memory is that of a buffer of 64 rollouts and of the process that reads them. The "
        "rollouts are a few sample episodes under many names.",
    ),
    "ray_workers": (
        "A generation on a Ray cluster",
        "workers",
        "seconds per generation",
        "steps per second",
        "32 candidates play one episode of 100 steps each. All nodes of this cluster share one "
        "machine's cores: this shows what the cluster itself costs, not what machines bring.",
    ),
}

HEAD = """# How fast it is

Every figure here was measured by `make bench`. *Ratio* is what was measured, divided by a
yardstick of the same run; it says more than the rates themselves, which differ from machine to
machine. Ratios do so, too: on processors with wider bf16 units the fp32 product is a smaller part
of what they can do. *Goal* is what we set ourselves, and not all of them are reached.

There are two kinds of yardstick. For V, M and the dream it is the machine's own product of fp32
matrices; the library multiplies in bf16 where the processor can, so it may be faster than that, and
the bf16 product is its limit. For driving and collecting it is a loop in Gymnasium's CarRacing,
while the library drives in EnvPool's copy, which is itself several times faster: **most of these
two ratios is EnvPool's.** What the library alone gains is the ratio of Gymnasium to Gymnasium.

"""

HELD = """
What holds V, M and the dream below their limit: the limit is a product of large square matrices and
nothing else. Of torch's time, products take {vae_training:.0%} in V's training,
{mdrnn_training:.0%} in M's and {dream:.0%} in the dream, and theirs are small or narrow. The rest
goes into what is done number by number: activations, gates, the mixture's exponentials, the
optimiser, copies between bf16 and fp32.
"""


def write_page(reports: Path, book: Path) -> None:
    """Write ``performance.md`` and its pictures into the book's folder.

    Args:
        reports: Folder of ``report.json``, ``growth.json``, and a ``report_NAME.json`` for every
            other machine.
        book: The book's folder.
    """
    rows, curves = (
        json.loads((reports / name).read_text(encoding="utf-8"))
        for name in ("report.json", "growth.json")
    )
    others = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(reports.glob("report_*.json"))
    ]
    parts = [HEAD, table(rows), ground(rows), held(rows), elsewhere(rows, others)]
    parts.append("\n## How cost grows\n")
    for name, (title, *_, known) in CURVES.items():
        points = curves.get(name)
        parts.append(f"\n### {title}\n\n")
        if not points:
            parts.append("Not measured.\n")
            continue
        picture = f"figures/performance_{name}.png"
        (book / picture).parent.mkdir(exist_ok=True)
        (book / picture).write_bytes(draw(name, points).png())
        alt = in_words(name, points)
        parts.append(f"```{{image}} {picture}\n:alt: {alt}\n:class: wm-plot\n```\n\n")
        parts.append(f"{grown(name, points)} {known}\n")
    (book / "performance.md").write_text("".join(parts), encoding="utf-8")


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: list[dict[str, Any]]) -> str:
    """What was measured, against what, and how far the goal was reached."""
    heads = ["what", "ratio", "goal", "measured", "yardstick", "bf16 limit"]
    lines = [f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n"]
    for row in rows:
        what, yardstick = ABOUT[row["name"]]
        measured, ratio, goal, limit = str(row["value"]), "–", "–", "–"
        if not isinstance(row["value"], str):
            measured = f"{number(row['value'])} {row['unit']}"
            if row["ratio"] is not None:
                yardstick += f": {number(row['yardstick'])}"
                ratio = f"**{row['ratio']:.2f}**"
                goal = "–" if row["goal"] is None else f"{row['goal']:g}"
            elif row["goal"] is not None:
                goal = f"under {row['goal']:g} {row['unit']}"
            if row["limit"]:
                limit = f"{number(row['limit'])} ({row['value'] / row['limit']:.2f} of it)"
        lines.append(f"| {' | '.join([what, ratio, goal, measured, yardstick, limit])} |\n")
    return "".join(lines)


def ground(rows: list[dict[str, Any]]) -> str:
    """Which machine and which versions."""
    versions = ", ".join(f"{name} {version}" for name, version in rows[0]["versions"].items())
    return (
        f"\nAll rows were measured on one machine: {rows[0]['hardware']}. Versions: {versions}.\n"
    )


def held(rows: list[dict[str, Any]]) -> str:
    """What keeps the rows below their limit."""
    return HELD.format(**{row["name"]: row["in_products"] for row in rows if row["in_products"]})


def elsewhere(rows: list[dict[str, Any]], others: list[list[dict[str, Any]]]) -> str:
    """The ratios of other machines beside those of the first."""
    if not others:
        return ""
    machines = [report[0]["hardware"] for report in (rows, *others)]
    lines = ["\n## Ratios on other machines\n\n", f"| what | {' | '.join(machines)} |\n"]
    lines.append(f"|---|{'---|' * len(machines)}\n")
    ratios = [{row["name"]: row["ratio"] for row in report} for report in (rows, *others)]
    for name, (what, _) in ABOUT.items():
        found = [ratio.get(name) for ratio in ratios]
        if any(found):
            cells = ["–" if ratio is None else f"{ratio:.2f}" for ratio in found]
            lines.append(f"| {what} | {' | '.join(cells)} |\n")
    return "".join(lines)


def draw(name: str, points: list[dict[str, float]]) -> Plot:
    """Cost on the left, rate on the right."""
    title, x_label, *labels, _ = CURVES[name]
    xs = [point["x"] for point in points]
    with canvas(1, 2, height=2.8) as (figure, axes):
        for ax, key, label in zip(axes, ("cost", "rate"), labels, strict=True):
            ax.plot(xs, [point[key] for point in points], marker="o")
            ax.set_xscale("linear" if name == "ray_workers" else "log")
            ax.set_xticks(xs, [f"{x}" if x < 1000 else f"{x / 1000:.0f}k" for x in xs])
            ax.minorticks_off()
            if key == "cost" and name in ("population", "dream_rows"):
                ax.set_yscale("log")
                ax.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter("{x:g}")
                ax.yaxis.set_minor_formatter(NullFormatter())
            else:
                ax.set_ylim(0, 1.1 * max(point[key] for point in points))
            ax.set_xlabel(x_label)
            ax.set_title(label)
    return Plot(figure, title)


def grown(name: str, points: list[dict[str, float]]) -> str:
    """How the cost has grown from the first point to the last, in a sentence."""
    _, x_label, cost, *_ = CURVES[name]
    first, last = points[0], points[-1]
    factor, costs = last["x"] / first["x"], last["cost"] / first["cost"]
    span = f"From {first['x']:,} to {last['x']:,} {x_label}, {factor:g} times as many"
    return f"{span}: {costs:.3g} times the {cost}."


def in_words(name: str, points: list[dict[str, float]]) -> str:
    """The picture's ends, for who cannot see it."""
    title, x_label, cost, rate, _ = CURVES[name]
    ends = points[0], points[-1]
    told = [f"{p['x']:,} {x_label}: {number(p['cost'])} {cost}" for p in ends]
    rates = " and ".join(number(p["rate"]) for p in ends)
    return f"{title}. {told[0]}; {told[1]}; {rates} {rate}."
