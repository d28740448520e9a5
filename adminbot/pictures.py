"""Pictures of figures; the only user of matplotlib, which is loaded when a picture is wanted.

Drawn without a screen and without global state (matplotlib manual, "Embedding in a web
application server").
"""

import io
from collections.abc import Sequence

LONGEST_LABEL = 40
_INK, _FILL, _LAST = "#1b1d22", "#0dbd8b", "#8fdcc4"


def bars(
    title: str, labels: Sequence[str], values: Sequence[int], *, last_is_open: bool = False
) -> bytes:
    """Return a PNG picture of one bar for each label; the last one paler if it still grows."""
    # Half a second and 30 MB: not for a bot that is never asked for one.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # half a second and 30 MB
    from matplotlib.figure import Figure  # noqa: PLC0415  # half a second and 30 MB
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # half a second and 30 MB

    # Clients show it as wide as a hand: few inches, so that its words are large.
    figure = Figure(figsize=(5, 2.8), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = [_FILL] * len(values)
    if last_is_open and colours:
        colours[-1] = _LAST
    drawn = axes.bar(range(len(values)), list(values), color=colours)
    axes.bar_label(drawn, padding=2, color=_INK, fontsize=8)
    names = [label[:LONGEST_LABEL] for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_title(_literal(title), color=_INK)
    axes.set_ylim(0, max(1, *values, 1) * 1.15)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _literal(text: str) -> str:
    return text.replace("$", r"\$")  # no mathematics in titles
