"""The book's page on speed, written from the report."""

from pathlib import Path
from typing import Any

from matplotlib.ticker import LogLocator, NullFormatter
from wmlib.plots import Plot, canvas

PRODUCT = "the machine's own product of two fp32 2048³ matrices, in the same operations"
ABOUT = {
    "agent_evaluation": (
        "CarRacing-v3 driven by the whole agent, a generation in one batch",
        "the reference page's loop: one Gymnasium environment, batch 1, a process per core",
    ),
    "collection": (
        "rollouts played, resized to 64×64 and written",
        "the same work with one Gymnasium environment per core",
    ),
    "vae_training": ("V trained, batch 100, 233 MFLOP a frame", PRODUCT),
    "vae_encoding": ("frames encoded, batch 100, 29.6 MFLOP a frame", PRODUCT),
    "mdrnn_training": ("M trained, batch 100 × 64 steps, 2.3 MFLOP a step", PRODUCT),
    "dream": ("1,024 dreams side by side: M, sampling and C, 0.76 MFLOP a step", PRODUCT),
    "reading": ("shuffled frames from rollouts on disk", "the rate at which V trains"),
    "first_action": ("import, load the shipped agent, act once, in a new process", "–"),
    "vae_training_gpu": ("V trained on a GPU", "its own bf16 8192³ product"),
    "vae_encoding_gpu": ("frames encoded on a GPU", "its own bf16 8192³ product"),
    "dream_gpu": ("1,024 dreams on a GPU", "its own bf16 8192³ product"),
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
        "The memory is that of a buffer of 64 rollouts in the process that reads ahead, and of the "
        "process that it reads for. The rollouts are a few sample episodes under many names.",
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

Every figure here was measured by `make bench`, beside a yardstick measured in the same run, in
turns with it; both are medians. The ratio of the two says more than the rates themselves, which
differ from machine to machine. *Goal* is what we set ourselves, and not all of them are reached.
The machine's own product is of fp32 matrices; where the library multiplies in bf16, it can be
faster than that.

"""


def write_page(
    rows: list[dict[str, Any]], curves: dict[str, list[dict[str, float]]], book: Path
) -> None:
    """Write ``performance.md`` and its pictures into the book's folder."""
    parts = [HEAD, table(rows), ground(rows), "\n## How cost grows\n"]
    for name, points in curves.items():
        title, *_, known = CURVES[name]
        parts.append(f"\n### {title}\n\n")
        if not points:
            parts.append("Not measured.\n")
            continue
        picture = f"figures/performance_{name}.png"
        (book / picture).parent.mkdir(exist_ok=True)
        (book / picture).write_bytes(draw(name, points).png())
        parts.append(f"```{{image}} {picture}\n:alt: {in_words(name, points)}\n```\n\n")
        parts.append(f"{grown(name, points)} {known}\n")
    (book / "performance.md").write_text("".join(parts))


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: list[dict[str, Any]]) -> str:
    """What was measured, against what, and how far the goal was reached."""
    lines = [
        "| what | ratio | goal | measured | yardstick |\n",
        "|---|---|---|---|---|\n",
    ]
    for row in rows:
        what, yardstick = ABOUT[row["name"]]
        if isinstance(row["value"], str):
            lines.append(f"| {what} | – | – | {row['value']} | {yardstick} |\n")
            continue
        measured, ratio, goal = f"{number(row['value'])} {row['unit']}", "–", "–"
        if row["ratio"] is not None:
            yardstick += f": {number(row['yardstick'])}"
            ratio = f"**{row['ratio']:.2f}**"
            goal = "–" if row["goal"] is None else f"{row['goal']:g}"
        elif row["goal"] is not None:
            goal = f"under {row['goal']:g} {row['unit']}"
        lines.append(f"| {what} | {ratio} | {goal} | {measured} | {yardstick} |\n")
    return "".join(lines)


def ground(rows: list[dict[str, Any]]) -> str:
    """Which machine and which versions."""
    versions = ", ".join(f"{name} {version}" for name, version in rows[0]["versions"].items())
    return f"\nMachine: {rows[0]['hardware']}. Versions: {versions}.\n"


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
