"""Graphs by name: the cases of Figure 1 in which every column that can go missing has causes of one kind."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

from pyro_mnar.graphs.nodes import Nodes
from pyro_mnar.mechanisms.parents import Parents
from pyro_mnar.messages import has_parts, shown

Rule = Callable[[Nodes, Hashable], Iterable[Hashable]]  # gives the parents of a column's R


class Preset(NamedTuple):
    """A rule for the parents of every R.

    Attributes:
        parents: Which of X, Z and U they are.
        meaning: What causes what, in words.
    """

    parents: Parents
    meaning: str

    @property
    def rule(self) -> Rule:
        """The rule, as :meth:`~pyro_mnar.MissingnessGraph.of_rule` takes it."""
        return rule_of(self.parents)


PRESETS: dict[str, Preset] = {
    "mcar": Preset(Parents(), "nothing causes the missingness"),
    "mar": Preset(Parents(given=True), "only what is always observed causes the missingness"),
    "self_masking": Preset(Parents(own=True), "each column's own value causes its missingness"),
    "fully_connected": Preset(Parents(own=True, others=True), "all columns cause the missingness of each"),
    "latent": Preset(Parents(latent=True), "the latent causes the missingness"),
    "latent_dependent": Preset(
        Parents(own=True, latent=True), "each column's own value and the latent cause its missingness"
    ),
    "general": Preset(
        Parents(own=True, others=True, latent=True), "all columns and the latent cause the missingness of each"
    ),
    "no_self_censoring": Preset(Parents(others=True), "all columns but itself cause each one's missingness"),
    "no_self_censoring_given_z": Preset(
        Parents(others=True, latent=True), "all columns but itself, and the latent, cause each one's missingness"
    ),
}


def rule_of(parents: Parents) -> Rule:
    """The rule that gives every R the same kind of parents."""
    return lambda nodes, column: parents.names(column, nodes.columns, nodes.latent, nodes.given)


def always_observed(on: Iterable[Hashable] | None) -> Rule:
    """The rule of ``mar``: complete columns and auxiliaries, all of them or those named.

    The rule raises ValueError if a cause can itself go missing (that would be MNAR), or there is none.
    """
    if not (on is None or has_parts(on)):
        raise TypeError(f"on: expected names of columns, got {shown(on)}")
    on = None if on is None else list(on)

    def parents(nodes: Nodes, column: Hashable) -> list[Hashable]:
        chosen = list(nodes.given) if on is None else on
        for name in chosen:
            if name in nodes.incomplete:
                raise ValueError(f"mar: column {name!r} can itself go missing, so depending on it is not MAR")
            if name not in nodes.given:
                raise ValueError(
                    f"mar: expected complete columns or auxiliaries, {list(nodes.given)!r}, got {shown(name)}"
                )
        if not chosen:
            raise ValueError("mar: expected a complete column or an auxiliary to depend on, got none")
        return chosen

    return parents
