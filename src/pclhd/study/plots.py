"""Plots of a study, drawn by Optuna: PNG files and, where plotly is installed, one HTML page without network."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from jinja2 import Environment
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter
from optuna.study import Study
from optuna.trial import TrialState

from pclhd.files import claiming, write_durably
from pclhd.study.definition import ORACLE
from pclhd.study.folder import StudyFolder
from pclhd.study.summary import NAMES, Summary, summary_text, trials_csv

#: Each plot with its heading and what it shows.
PLOTS = {
    "importance": (
        "Importance",
        "How much each setting separates the best trials from all others (PED-ANOVA). It says nothing about settings "
        "outside the space, and with few trials it is mostly chance.",
    ),
    "slice": ("Slices", "The objective of each complete trial against each setting; later trials are darker."),
    "history": ("History", "The objective of each complete trial in order, and the best so far."),
    "epochs": (
        "Epochs",
        "The criterion after each epoch; trials that end early were below the median of the others.",
    ),
}
_LONGEST_LEGEND = 12
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Study {{ summary.name }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a;
  background: #fff }
pre { overflow-x: auto; background: #f4f4f4; padding: 1rem; font-size: 14px } .plot { overflow-x: auto }
.oracle { border-left: .4rem solid #b00; padding-left: 1rem }
</style></head><body><main>
<h1>Study {{ summary.name }}</h1>
<p>Objective: <strong>{{ objective }}</strong></p>
{% if oracle %}<p class="oracle">Identities chose between these trials. The best value is a bound, not a label-free
result.</p>{% endif %}
<pre tabindex="0">{{ text }}</pre>
{% for plot in plots %}<h2>{{ plot.heading }}</h2><p>{{ plot.about }}</p><div class="plot">{{ plot.html | safe }}</div>
{% endfor %}</main></body></html>
"""


def write_plots(study: Study, summary: Summary, folder: StudyFolder) -> list[Path]:
    """Write the trials as CSV and the plots; older ones are replaced.

    Args:
        study: The study.
        summary: Its trials.
        folder: Where the files go.

    Returns:
        The files written. Plots that need more trials than there are, are left out; so is the page without plotly.

    Raises:
        UserError: A file cannot be written.
    """
    files: list[tuple[Path, str | bytes]] = [(folder.trials_file, trials_csv(summary))]
    files += [(folder.picture_file(name), drawn) for name, drawn in _pictures(study, summary)]
    page = _page(study, summary)
    if page is not None:
        files.append((folder.page_file, page))
    for path, content in files:
        with claiming(path):  # which removes what a killed process left
            write_durably(path, content)
    return [path for path, _ in files]


def _drawable(study: Study, summary: Summary) -> list[str]:
    """The plots that the trials suffice for."""
    complete = [row for row in summary.rows if row.state == "complete"]
    names = []
    if len(complete) > 1 and len({row.value for row in complete}) > 1:
        names.append("importance")
    if complete:
        names += ["slice", "history"]
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    if any(trial.intermediate_values for trial in finished):
        names.append("epochs")
    return names


def _drawers(module: Any, study: Study, summary: Summary) -> dict[str, Callable[[], Any]]:
    """Functions that draw, of Optuna's module for plotly or of that for matplotlib."""
    target = NAMES[summary.objective]
    return {
        "importance": lambda: module.plot_param_importances(study, target_name=target),
        "slice": lambda: module.plot_slice(study, params=list(summary.keys), target_name=target),
        "history": lambda: module.plot_optimization_history(study, target_name=target),
        "epochs": lambda: module.plot_intermediate_values(study),
    }


def _pictures(study: Study, summary: Summary) -> Iterator[tuple[str, bytes]]:
    from optuna.visualization import matplotlib as module

    drawers = _drawers(module, study, summary)
    for name in _drawable(study, summary):
        with warnings.catch_warnings(), mpl.rc_context({"backend": "agg"}), plt.style.context("default"):
            warnings.simplefilter("ignore")  # Optuna calls its module for matplotlib experimental
            drawn = drawers[name]()
            axes: Axes = drawn if hasattr(drawn, "figure") else drawn.flat[0]
            figure = axes.get_figure(root=True)
            assert figure is not None
            _label(axes, name, summary)
            width = max(8.0, 3.2 * len(summary.keys)) if name == "slice" else 8.0
            figure.set_size_inches(width, 4.5)
            target = io.BytesIO()
            figure.savefig(target, format="png", dpi=110, bbox_inches="tight")
            plt.close(figure)
        yield name, target.getvalue()


def _label(axes: Axes, name: str, summary: Summary) -> None:
    """Name what is shown as the rest of the project does."""
    if name == "slice":
        figure = axes.get_figure(root=True)
        assert figure is not None
        figure.suptitle(PLOTS[name][0])
        for panel in figure.axes:
            if panel.get_xscale() == "log":  # 10, 20, 30 and not 10¹, 2×10¹
                panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
                panel.xaxis.set_major_formatter(ScalarFormatter())
                panel.xaxis.set_minor_locator(NullLocator())
        return
    axes.set_title("", loc="left")
    axes.set_title(PLOTS[name][0])
    if name in ("history", "epochs"):
        axes.set_xlabel("trial" if name == "history" else "epoch, over all seeds")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if name == "epochs":
        axes.set_ylabel(NAMES[summary.objective])
        legend = axes.get_legend()
        if legend is not None and len(legend.get_texts()) > _LONGEST_LEGEND:
            legend.remove()


def _page(study: Study, summary: Summary) -> str | None:
    from optuna import visualization as module

    if not module.is_available():
        return None
    drawers = _drawers(module, study, summary)
    plots: list[dict[str, str]] = []
    for name in _drawable(study, summary):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            figure = drawers[name]()
        heading, about = PLOTS[name]
        figure.update_layout(title_text=None, template="plotly_white")
        if name == "epochs":
            figure.update_layout(xaxis_title="epoch, over all seeds", yaxis_title=NAMES[summary.objective])
        # The library is written once, into the page: it needs no network.
        html = figure.to_html(full_html=False, include_plotlyjs=not plots, config={"displaylogo": False}, div_id=name)
        plots.append({"heading": heading, "about": about, "html": html})
    template = Environment(autoescape=True).from_string(_PAGE)
    return template.render(
        summary=summary,
        objective=NAMES[summary.objective],
        oracle=summary.objective == ORACLE,
        text=summary_text(summary),
        plots=plots,
    )
