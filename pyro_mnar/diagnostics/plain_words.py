"""The identifiability report for a reader who has not read the paper: one sentence first, then lines by what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from pyro_mnar.diagnostics.assumptions import NOT_IDENTIFIED, UNTESTABLE, VIOLATED, Line
from pyro_mnar.graphs.graph import MissingnessGraph

WIDTH = 110
SPARED = "It does not matter here: by your graph, no missing value decides what is seen."
SHOWN = 3  # causes in the first sentence

KNOW = "Say what you know of how values went missing"
COLUMN = "Look for another column"
ROWS = "Look for other rows or answers"
MODEL = "Change the model"
ASK = "Ask, for no data can tell"
UNCHECKED = "Not checked"
NOTHING = "Nothing to do"
GROUPS = (KNOW, COLUMN, ROWS, MODEL, ASK, UNCHECKED, NOTHING)


class Words(NamedTuple):
    """What a line says to an analyst.

    Attributes:
        to_do: The group that it stands in where something speaks against it.
        fine: What is the case where nothing does, or what is assumed.
        wrong: What is the case where something does.
        helps: What would help then.
        has_plain_figures: Whether what was measured can be read without the theory.
    """

    to_do: str
    fine: str
    wrong: str
    helps: str
    has_plain_figures: bool = False


WORDS = {
    "Definition 2.1": Words(
        KNOW,
        "No other settings of the model fit the observed values as well and impute something else.",
        "Other settings of the model fit the observed values as well and impute something else: these data do not"
        " decide between them.",
        "to declare what is known of the cause: whether high or low values go missing, or fewer causes",
    ),
    "positivity (A3)": Words(
        ROWS,
        "Missing values are imputed where values are sometimes observed.",
        "Some values seem never to be observed: there, the model's form alone says what the missing ones are.",
        "some of the missing values themselves, such as a follow-up of people who did not answer",
        True,
    ),
    "shadow variable (not in the paper)": Words(
        COLUMN,
        "For every column that needs it, something always observed tells about the value and does not decide whether it"
        " is seen.",
        "For some columns, nothing that is always observed tells about the value without deciding, too, whether it is"
        " seen. So little but the model's form tells a rare value from a hidden one.",
        "a column that is always observed and tells about the value, but does not decide whether it is seen; or to"
        " declare fewer causes, if you know that there are",
        True,
    ),
    "A3": Words(
        ROWS,
        "Every column is observed together with enough others.",
        "Some columns are never observed together with enough others to learn how they go together.",
        "rows in which more is observed, or a model with fewer latents",
        True,
    ),
    "A5 (injective decoder)": Words(
        MODEL,
        "The model has no more hidden factors (latents) than columns.",
        "The model has more hidden factors (latents) than columns, so that nothing pins them down.",
        "fewer latents: latent_dim below the number of columns",
    ),
    "A5 (injective f_O)": Words(
        MODEL,
        "Different hidden factors (latents) show as different values in what is observed.",
        "Different hidden factors (latents) look the same in what is observed, so that nothing pins them down.",
        "fewer latents or a simpler decoder",
    ),
    "p(Z|U), equation 3": Words(
        COLUMN,
        "The columns that the model conditions on tell about the others.",
        "The columns that the model conditions on tell nothing about the others, or there are none.",
        "complete columns that drive what is measured: auxiliary=[...]",
    ),
    "Theorem 1, condition 4": Words(
        COLUMN,
        "The columns that the model conditions on take enough different values.",
        "The columns that the model conditions on take too few different values, or move the latents in too few"
        " directions, to pin these down.",
        "more or richer auxiliary columns, or fewer latents",
    ),
    "U (section 2.3)": Words(
        COLUMN,
        "The model does not condition on the gaps themselves.",
        "The model conditions on the gaps themselves, which are an effect of the values and no cause.",
        "auxiliary columns instead of auxiliary='mask'",
    ),
    "Theorem 1, x = f(z) + ε": Words(
        MODEL,
        "All columns are continuous, as the theory behind the model has them.",
        "Some columns are not continuous, and the theory behind the model does not speak of such columns.",
        "a look at how far results of several starts differ: fit(..., restarts=5), and the search for other settings",
    ),
    "D2": Words(
        ASK,
        "Being missing changes nothing else: no value is another one because it was not seen.",
        "In your graph being missing in one column decides about another one, of which the theory does not speak.",
        "to ask whether columns are skipped together, as a page is",
    ),
    "A1, A4": Words(
        ASK,
        "Your graph is right, and so are the shapes that the model takes values and chances to have.",
        "",
        "to ask people who know how the values went missing, and to report what changes under other graphs",
    ),
}
ORDER_OF_HELP = (
    "Definition 2.1", "shadow variable (not in the paper)", "positivity (A3)", "A3", "p(Z|U), equation 3",
    "U (section 2.3)", "Theorem 1, condition 4", "A5 (injective decoder)", "A5 (injective f_O)", "D2",
    "Theorem 1, x = f(z) + ε",
)  # fmt: skip


def bottom_line(lines: Sequence[Line], graph: MissingnessGraph | None) -> str:
    """What it all comes to, for somebody who reads nothing else."""
    against = {line.paper: line for line in lines if _speaks_against(line)}
    if "Definition 2.1" in against:
        first = "These data do not decide what the missing values are"
        first += f": {against['Definition 2.1'].evidence}."
    elif against:
        # Of identification and not of truth: none of these lines can refute a graph.
        number = "one condition" if len(against) == 1 else f"{len(against)} conditions"
        first = (
            f"Nothing here contradicts your graph, but {number} under which data like these pin the missing values down"
            f" {'does' if len(against) == 1 else 'do'} not hold, so that more rests on what you assume."
        )
    else:
        first = "Nothing here contradicts your graph."
    helps = next((WORDS[paper].helps for paper in ORDER_OF_HELP if paper in against), WORDS["A1, A4"].helps)
    return f"{first} What you assume and cannot test: {_assumed(graph)}. What would help most: {helps}."


def in_plain_words(lines: Sequence[Line], graph: MissingnessGraph | None) -> str:
    """The bottom line, then every line under what to do about it, with its figures."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for line in lines:
        words = WORDS[line.paper]
        is_wrong, figures = line.verdict in (VIOLATED, NOT_IDENTIFIED), line.evidence
        if is_wrong and line.matters:
            group, text = words.to_do, words.wrong
        elif is_wrong:
            group, text = NOTHING, f"{words.wrong} {SPARED}"
        elif line.verdict == UNTESTABLE and words.to_do != ASK:
            group, text = UNCHECKED, f"Whether this holds: {words.fine}"
        else:
            group, text = ASK if line.verdict == UNTESTABLE else NOTHING, words.fine
            figures = line.evidence if words.has_plain_figures else ""
        advice = f"What helps: {words.helps}." if is_wrong and line.matters else ""
        parts = (_wrapped(text, "- "), _wrapped(figures), _wrapped(advice))
        groups[group].append("\n".join(filter(None, parts)))
    shown = ["\n".join([group, *found]) for group, found in groups.items() if found]
    closing = "Names of the assumptions in the literature, and what each verdict proves: .to_text(detail=True)"
    return "\n\n".join([textwrap.fill(bottom_line(lines, graph), WIDTH), *shown, closing])


def _speaks_against(line: Line) -> bool:
    return line.verdict in (VIOLATED, NOT_IDENTIFIED) and line.matters


def _assumed(graph: MissingnessGraph | None) -> str:
    """What the graph takes to be the causes, in words."""
    if graph is None:
        return "that it has nothing to do with the missing values which of them are missing"
    causes = {str(column): [str(cause) for cause in graph.parents(column)] for column in graph.nodes.incomplete}
    if not causes:
        return "nothing, for nothing is missing"
    if all(found == [column] for column, found in causes.items()):
        return "that each column's own value alone decides whether it is seen" + _and_shapes()
    if not any(causes.values()):
        return "that no missing value has a say in what is seen" + _and_shapes()
    if len({*map(tuple, causes.values())}) == 1:
        return f"that {_named(next(iter(causes.values())))} alone decide what is seen" + _and_shapes()
    told = [f"{column} is seen or not by {_named(found)} alone" for column, found in list(causes.items())[:SHOWN]]
    more = f"; and so on for {len(causes) - SHOWN} more" if len(causes) > SHOWN else ""
    return f"that {'; '.join(told)}{more}" + _and_shapes()


def _named(causes: Sequence[str]) -> str:
    if not causes:
        return "chance"
    shown = [*causes[:SHOWN], *([f"{len(causes) - SHOWN} more"] if len(causes) > SHOWN else [])]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _and_shapes() -> str:
    return "; and that the shapes which the model takes values to have are right"


def _wrapped(text: str, bullet: str = "  ") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=f"  {bullet}", subsequent_indent="    ") if text else ""
