"""What docs/benchmarks.md shows as pictures."""

import matplotlib

matplotlib.use("svg")
# Text stays text, and one run is drawn the same each time.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hearth", "axes.spines.top": False, "axes.spines.right": False})
from matplotlib import pyplot  # noqa: E402

# As `bench load` has them.
QUANTILES = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999]
IN_WARM = ["![Latency of one caller, by percentile](plots/latency.svg)", "", "![Calls a second by the number of callers](plots/throughput.svg)"]
IN_COLD = ["Where the time of a cold start goes, as `hearth explain` tells it (medians):", "", "![Cold starts by phase](plots/cold.svg)"]


def latency(results, axes):
    warm = {f"Hearth, {label}": of["c1"] for label, of in results["hearth"]["warm"].items()}
    every = {"raw hyper echo": results["echo"]["c1"], **warm, "AWS's emulator, Python": results["emulator"]["warm"]["c1"]}
    for label, load in every.items():
        # One minus the part, so that each nine has its own room.
        axes.plot([1 / (1 - part) for part in QUANTILES], load["quantilesUs"], label=label)
    axes.set(xscale="log", yscale="log", xlabel="percentile", ylabel="µs, one caller")
    axes.set_xticks([1, 2, 10, 100, 1000], ["0", "50", "90", "99", "99.9"])
    axes.tick_params(axis="x", which="minor", bottom=False)


def throughput(results, axes):
    for label, of in results["hearth"]["warm"].items():
        points = sorted((int(callers), rate) for callers, rate in of["byCallers"].items())
        axes.plot(*zip(*points), marker="o", label=f"Hearth, {label}")
    axes.set(xscale="log", xlabel="callers", ylabel="calls a second", ylim=(0, None))
    ticks = [1, 2, 4, 8, 16, 32, 64]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.tick_params(axis="x", which="minor", bottom=False)


def cold(results, axes):
    bars = [
        (f"{label}, {said}", of[way]["phasesMs"])
        for label, of in results["hearth"]["cold"].items()
        for way, said in (("prepared", "prepared"), ("fromNothing", "from nothing"))
    ]
    bars.reverse()
    names = list(dict.fromkeys(name for _, phases in reversed(bars) for name in phases))
    left = [0.0] * len(bars)
    for name in names:
        widths = [phases.get(name, 0) for _, phases in bars]
        axes.barh([label for label, _ in bars], widths, left=left, label=name)
        left = [one + width for one, width in zip(left, widths)]
    axes.set(xlabel="ms, in the server")


def draw(results, folder):
    folder.mkdir(exist_ok=True)
    for name, what, height in (("latency", latency, 4), ("throughput", throughput, 4), ("cold", cold, 3.2)):
        figure, axes = pyplot.subplots(figsize=(8, height), layout="constrained")
        what(results, axes)
        axes.legend(frameon=False, fontsize="small")
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)
