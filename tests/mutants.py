"""Named breakages of the sources, each with the tests that have to notice it: ``make mutants``.

    python tests/mutants.py              all of them, one after the other
    python tests/mutants.py pooling      those whose name holds the word

A mutant is one piece of text replaced in one file.  The tests that belong to it must fail then; those that pass let it
survive, and are named at the end.  Files are put back whatever happens; a file with changes that are not committed is
left alone.  Tests that fail without the mutant say nothing, since they would kill anything: such a mutant counts as
one that survived.  It is no part of CI: a run takes about a minute a mutant.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    """A breakage.

    Attributes:
        name: What it breaks.
        file: The source, from the repository's root.
        old: Text that stands there exactly once.
        new: What it becomes.
        tests: Arguments of pytest: the tests that have to fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


WEIGHTS, OBJECTIVE = "pyro_mnar/infer/weights.py", "tests/infer/test_objective.py"
ESTIMATORS, GRADIENTS = "pyro_mnar/infer/estimators.py", "tests/infer/test_gradients.py"
PRIMITIVES, WORDS = "pyro_mnar/primitives/words.py", "tests/test_primitives.py"
POOLING, POOLED = "pyro_mnar/imputation/pooling.py", "tests/imputation/test_pooling.py"
SAMPLER, IMPUTED = (
    "pyro_mnar/imputation/sampler.py",
    "tests/imputation/test_imputations.py tests/imputation/test_resampling.py",
)
SEPARATION, GRAPHS = "pyro_mnar/graphs/separation.py", "tests/graphs"
REACH, HELD = "pyro_mnar/imputation/reach.py", "tests/imputation/test_reach.py"
DELTAS, SHIFTED = "pyro_mnar/imputation/deltas.py", "tests/imputation/test_deltas.py"
CAPTURED, STEPS = "pyro_mnar/training/captured_steps.py", "tests/training/test_captured.py"
RUN, KEPT = "pyro_mnar/training/run.py", "tests/training/test_checkpoint.py"
START = "tests/models/test_data_start.py"
SLOW = " -m slow"  # in place of the quick tests
BOOTSTRAP, BOOTSTRAPPED = "pyro_mnar/training/bootstrap.py", "tests/training/test_bootstrap.py"
SESSION, ISOLATED = "pyro_mnar/infer/session.py", "tests/infer/test_isolation.py tests/training/test_svi.py"
LEVELS, NUMBERS, KINDS = "pyro_mnar/kinds/levels.py", "pyro_mnar/kinds/numbers.py", "tests/kinds/test_kinds.py"
SCALES, DECLARED = "pyro_mnar/kinds/scales.py", "pyro_mnar/mechanisms/declared.py"
CONSTRAINTS, CONSTRAINED = "pyro_mnar/tables/constraints.py", "tests/tables/test_constraints.py"
FILES, SAVED = "pyro_mnar/training/files.py", "tests/training/test_files.py"
ROWS, SAFE = "pyro_mnar/tables/batch.py", "tests/test_bad_inputs.py"

MUTANTS = [
    # Objective
    Mutant(
        "objective: the factor N/B is left out",
        WEIGHTS,
        "return self.scale * (values if",
        "return 1.0 * (values if",
        OBJECTIVE,
    ),
    Mutant(
        "objective: row weights are left out",
        WEIGHTS,
        "(values if self.row_weight is None else self.row_weight * values)",
        "values",
        BOOTSTRAPPED,
    ),
    Mutant(
        "objective: the guide's density is added",
        WEIGHTS,
        "return log_p - self.total(self.guide_sites) if",
        "return log_p + self.total(self.guide_sites) if",
        OBJECTIVE,
    ),
    Mutant(
        "objective: log K is not subtracted",
        WEIGHTS,
        "log_weights.logsumexp(0) - math.log(len(log_weights))",
        "log_weights.logsumexp(0)",
        OBJECTIVE,
    ),
    Mutant(
        "objective: the minibatch factor stays in the weight",
        WEIGHTS,
        'site["scale"] if self.scale == 1 else site["scale"] / self.scale',
        'site["scale"]',
        OBJECTIVE,
    ),
    Mutant(
        "objective: densities of shared latents of the guide are left out",
        WEIGHTS,
        "shared_density(self.shared_model_sites) - shared_density(self.shared_guide_sites)",
        "shared_density(self.shared_model_sites)",
        "tests/infer/test_shared.py",
    ),
    Mutant(
        "objective: masks of sites are ignored",
        WEIGHTS,
        'scale_and_mask(log_prob, scale, site["mask"])',
        "scale_and_mask(log_prob, scale, None)",
        OBJECTIVE + " " + WORDS,
    ),
    # Gradients
    Mutant(
        "gradient: the weights of the doubly reparameterised one are not squared",
        ESTIMATORS,
        "normalised.square() * log_weights",
        "normalised * log_weights",
        GRADIENTS,
    ),
    Mutant(
        "gradient: the guide's part is left out",
        ESTIMATORS,
        "surrogate = surrogate + sum((slope * value).sum()",
        "surrogate = surrogate + sum((0 * slope * value).sum()",
        GRADIENTS,
    ),
    Mutant(
        "gradient: the weights carry a gradient",
        ESTIMATORS,
        "normalised = log_weights.detach().softmax(0)",
        "normalised = log_weights.softmax(0)",
        GRADIENTS,
    ),
    Mutant(
        "gradient: the leave-one-out mean holds the particle itself",
        ESTIMATORS,
        "others = (log_weights.sum(0) - log_weights) / (count - 1)",
        "others = log_weights.sum(0) / count",
        "tests/infer/test_gradients.py tests/infer/test_discrete_gradients.py",
    ),
    Mutant(
        "gradient: no baseline",
        ESTIMATORS,
        "return bound - (swapped.logsumexp(1) - math.log(count))",
        "return bound + 0 * swapped.logsumexp(1)",
        "tests/infer/test_gradients.py tests/infer/test_discrete_gradients.py",
    ),
    # Words of a model
    Mutant(
        "primitives: the mask's weight is ignored",
        PRIMITIVES,
        "with poutine.scale(scale=weight):",
        "with poutine.scale(scale=1.0):",
        WORDS,
    ),
    Mutant(
        "primitives: gaps by design are scored",
        PRIMITIVES,
        ".mask(call.at(batch.mask_modelled & batch.incomplete))",
        ".mask(call.at(batch.mask_modelled | batch.incomplete))",
        WORDS,
    ),
    Mutant(
        "primitives: complete columns are scored",
        PRIMITIVES,
        "batch.mask_modelled & batch.incomplete)",
        "batch.mask_modelled)",
        WORDS + " tests/models",
    ),
    Mutant(
        "primitives: the mask is exchanged",
        PRIMITIVES,
        "call.at(batch.mask).to(logits.dtype)",
        "call.at(~batch.mask).to(logits.dtype)",
        WORDS,
    ),
    Mutant(
        "primitives: another link is turned",
        "pyro_mnar/distributions/links.py",
        "link.log_observed(given) - link.log_missing(given)",
        "link.log_missing(given) - link.log_observed(given)",
        WORDS + " tests/distributions",
    ),
    # Mechanisms
    Mutant(
        "mechanisms: the sign of self-masking is turned",
        "pyro_mnar/mechanisms/steepness.py",
        "return steep(torch.where(signs == 0, raw, signs * softplus(raw)))",
        "return steep(torch.where(signs == 0, raw, -signs * softplus(raw)))",
        "tests/mechanisms",
    ),
    Mutant(
        "mechanisms: a known slope is learned",
        DECLARED,
        "return torch.where(self.is_known, self.known_slope, learned)",
        "return learned",
        "tests/mechanisms tests/models",
    ),
    Mutant(
        "mechanisms: the latent is not seen",
        DECLARED,
        "return super().forward(x, z) + self.of_latent(z)",
        "return super().forward(x, z)",
        "tests/mechanisms",
    ),
    Mutant(
        "mechanisms: the own value is not seen",
        DECLARED,
        "return self.raw_intercept * scale_of(slope) + slope * x",
        "return self.raw_intercept * scale_of(slope) + 0 * slope * x",
        "tests/mechanisms",
    ),
    Mutant(
        "models: the prior of the latent does not see U",
        "models/linear_gaussian.py",
        'z = pyro.sample("z", self.prior(batch.aux))',
        'z = pyro.sample("z", self.prior(0 * batch.aux))',
        "tests/models",
    ),
    Mutant(
        "models: the latent is standard normal whatever its prior",
        "models/linear_gaussian.py",
        'z = pyro.sample("z", self.prior(batch.aux))',
        'z = pyro.sample("z", pyro.distributions.Normal(batch.x.new_zeros(len(batch), self.latent_dim), 1.0).to_event(1))',
        "tests/models",
    ),
    Mutant(
        "mechanisms: priors on slopes are ignored",
        "models/linear_gaussian.py",
        "        score_prior(self.mechanism)\n",
        "",
        "tests/mechanisms tests/models",
    ),
    # Kinds
    Mutant(
        "kinds: levels are rounded down",
        LEVELS,
        "middle = (self.points[1:] + self.points[:-1]) / 2\n        return np.searchsorted(middle, numbers)",
        "middle = self.points[1:]\n        return np.searchsorted(middle, numbers)",
        KINDS,
    ),
    Mutant(
        "kinds: unseen levels pass",
        LEVELS,
        'refuse(unseen, values, column, f"one of {list(self.levels)!r}")',
        "pass",
        KINDS + " tests/tables/test_bad_input.py",
    ),
    Mutant("kinds: infinity is a level", LEVELS, "_refuse_infinite(values, column, levels)\n        if", "if", SAFE),
    Mutant(
        "kinds: positive numbers may be zero",
        NUMBERS,
        "refuse(numbers <= 0, values, column",
        "refuse(numbers < 0, values, column",
        KINDS + " " + SAFE,
    ),
    Mutant(
        "kinds: whole draws are not rounded",
        NUMBERS,
        "return np.rint(numbers) if self.is_whole else numbers",
        "return numbers",
        "tests/kinds tests/tables/test_wholeness.py",
    ),
    Mutant(
        "kinds: the logarithm comes back as itself",
        SCALES,
        "return np.exp(np.minimum(values, LARGEST))",
        "return np.minimum(values, LARGEST)",
        KINDS,
    ),
    Mutant(
        "kinds: the logit's range is forgotten",
        SCALES,
        "return self.lower + (self.upper - self.lower) * share",
        "return share",
        KINDS,
    ),
    Mutant(
        "kinds: means of logarithms are taken for means",
        SCALES,
        "return values.clamp(max=LARGEST).exp()",
        "return values",
        KINDS + " tests/imputation",
    ),
    # Imputation
    Mutant(
        "imputation: a draw takes another draw's particles",
        SAMPLER,
        "chosen = first_particles + chosen",
        "pass",
        IMPUTED,
    ),
    Mutant(
        "imputation: draws of θ count by their evidence",
        SAMPLER,
        "log_weights = (of_draws - torch.where(total == -torch.inf, 0.0, total)).flatten(0, 1)",
        "pass",
        "tests/infer/test_posterior.py tests/infer/test_shared.py tests/training/test_shared_latents.py",
    ),
    Mutant(
        "imputation: weights that are no numbers pass",
        SAMPLER,
        "refuse_unusable(some.log_weights, some.possible())",
        "pass",
        "tests/tables/test_bad_input.py tests/test_bad_inputs.py",
    ),
    Mutant(
        "imputation: the mask is left out",
        "pyro_mnar/imputation/target.py",
        "return batch.without_mechanism() if self is Target.WITHOUT_MASK else batch",
        "return batch.without_mechanism()",
        IMPUTED,
    ),
    Mutant(
        "imputation: the average forgets the weights",
        "pyro_mnar/imputation/averages.py",
        "softmax(0)",
        "mul(0).softmax(0)",
        IMPUTED,
    ),
    Mutant(
        "imputation: all rows are resampled by one number",
        "pyro_mnar/imputation/resampling.py",
        "torch.rand_like(total) * total",
        "torch.rand_like(total[:, :, :1]) * total",
        IMPUTED,
    ),
    Mutant(
        "imputation: means of two parts count equally",
        "pyro_mnar/imputation/averages.py",
        "share = (other.log_total - total).to(self.mean.dtype).exp()[:, None]",
        "share = 0.5 + 0 * (other.log_total - total).exp()[:, None]",
        IMPUTED,
    ),
    Mutant(
        "imputation: amounts beyond what was seen count as much as others",
        REACH,
        "OUTSIDE * outside",
        "0.0 * outside",
        HELD,
    ),
    Mutant(
        "imputation: a gap of which all particles are out of reach stays there",
        REACH,
        "torch.where(gaps, within, own)",
        "own",
        HELD,
    ),
    Mutant(
        "imputation: amounts whose own values cause their gaps are held by nothing",
        REACH,
        "FAR_OF_ONE if",
        "1e9 if",
        HELD,
    ),
    Mutant(
        "imputation: amounts whose own values cause their gaps are held as others are",
        REACH,
        'if column.kind == "MNAR"}',
        'if column.kind == "MCAR"}',
        HELD,
    ),
    Mutant(
        "imputation: what a derived value leaves to its argument has no Jacobian",
        "pyro_mnar/tables/derived_arguments.py",
        "log_slope = np.log(2 * step) - np.log(np.abs(after - before))",
        "log_slope = 0 * (after - before)",
        "tests/imputation/test_seen_formulas.py" + SLOW,
    ),
    # Pooling
    Mutant(
        "pooling: the factor 1 + 1/m is left out",
        POOLING,
        "return self.within + (1 + 1 / self.num_draws) * self.between",
        "return self.within + self.between",
        POOLED,
    ),
    Mutant(
        "pooling: the variance between draws divides by m",
        POOLING,
        "apart.T @ apart / (len(apart) - 1)",
        "apart.T @ apart / len(apart)",
        POOLED,
    ),
    Mutant(
        "pooling: degrees of freedom without the square",
        POOLING,
        "old = (num_draws - 1) / lambda_**2",
        "old = (num_draws - 1) / lambda_",
        POOLED,
    ),
    Mutant(
        "pooling: small samples are large",
        POOLING,
        "observed = (dfcom + 1) / (dfcom + 3) * dfcom * (1 - lambda_)",
        "observed = dfcom + 0 * lambda_",
        POOLED,
    ),
    Mutant(
        "pooling: D1 forgets the increase in variance",
        POOLING,
        "np.linalg.solve((1 + riv) * parts.within, parts.estimates)",
        "np.linalg.solve(parts.within, parts.estimates)",
        POOLED,
    ),
    Mutant(
        "pooling: D1's average is a sum",
        POOLING,
        "np.trace(np.linalg.solve(parts.within, parts.between)) / k)",
        "np.trace(np.linalg.solve(parts.within, parts.between)))",
        POOLED,
    ),
    Mutant(
        "pooling: D4's increase in variance is not held at zero",
        POOLING,
        "riv = max(0.0, float((m + 1) / (k * (m - 1)) * (np.mean(statistics) - stacked)))",
        "riv = float((m + 1) / (k * (m - 1)) * (np.mean(statistics) - stacked))",
        POOLED,
    ),
    Mutant(
        "pooling: too few draws needed",
        POOLING,
        "np.ceil(1 + 0.5 * (upper / variation) ** 2)",
        "np.ceil(1 + 0.5 * (upper / variation))",
        POOLED,
    ),
    Mutant("pooling: negative variances pass", POOLING, "if (variances < 0).any():", "if False:", POOLED),
    # Sensitivity
    Mutant(
        "sensitivity: log-odds go the other way",
        DELTAS,
        "above, below = above * raised, below / raised",
        "above, below = above / raised, below * raised",
        SHIFTED,
    ),
    Mutant(
        "sensitivity: all of the tilt on one side",
        DELTAS,
        "raised = np.exp(log_odds[:, 1:] / 2)",
        "raised = np.exp(log_odds[:, 1:])",
        SHIFTED,
    ),
    Mutant(
        "sensitivity: the first level is tilted too",
        DELTAS,
        "log_odds[:, 1:] = _by_row(given, frame, rows, column.name)[:, None]",
        "log_odds[:, :] = _by_row(given, frame, rows, column.name)[:, None]",
        SHIFTED,
    ),
    Mutant(
        "sensitivity: a delta that is not finite passes",
        DELTAS,
        "if not np.isfinite(of_cells).all():",
        "if False:",
        SHIFTED + " " + SAFE,
    ),
    # Graphs
    Mutant(
        "graphs: what is hidden does not make it MNAR",
        SEPARATION,
        'return "MNAR"  # nothing separates it from its own parent',
        'return "MAR"',
        GRAPHS,
    ),
    Mutant(
        "graphs: nothing is MCAR", SEPARATION, "if nx.is_d_separator(near, {r}, variables, set()):", "if False:", GRAPHS
    ),
    Mutant(
        "graphs: what is given is not conditioned on",
        SEPARATION,
        "variables - given, given) else",
        "variables - given, set()) else",
        GRAPHS,
    ),
    Mutant(
        "graphs: causes through another mask are lost",
        SEPARATION,
        "for node in (r, *through) for p",
        "for node in (r,) for p",
        GRAPHS,
    ),
    Mutant(
        "graphs: self-masking is any mechanism",
        SEPARATION,
        "all(parents == {column} for column, parents in causes.items())",
        "all(column in parents for column, parents in causes.items())",
        GRAPHS,
    ),
    Mutant(
        "graphs: an unknown entry of a file passes",
        "pyro_mnar/graphs/files.py",
        "if set(data) - ENTRIES or",
        "if",
        GRAPHS + " " + SAFE,
    ),
    # Training
    Mutant(
        "training: the first moment forgets too slowly",
        CAPTURED,
        "first.lerp_(gradient, 1 - BETAS[0])",
        "first.lerp_(gradient, 1 - BETAS[1])",
        STEPS,
    ),
    Mutant(
        "training: no bias correction of the second moment",
        CAPTURED,
        "(1 - BETAS[1] ** t).rsqrt()",
        "torch.ones_like(t)",
        STEPS,
    ),
    Mutant(
        "training: a step is taken where the loss is no number",
        CAPTURED,
        "theta.sub_(torch.where(is_finite, change, 0.0))",
        "theta.sub_(change)",
        STEPS,
    ),
    Mutant(
        "training: captured steps are not checked",
        CAPTURED,
        "if wrong and own_loss.isfinite().all():",
        "if False:",
        STEPS,
    ),
    Mutant(
        "training: the rate rises",
        RUN,
        "(1 + torch.cos(math.pi * progress))",
        "(1 - torch.cos(math.pi * progress))",
        "tests/training/test_svi.py " + STEPS,
    ),
    Mutant(
        "training: the worst parameters are kept",
        RUN,
        "if self._monitored > self._best:",
        "if self._monitored < self._best or not self._has_best:",
        "tests/training/test_svi.py",
    ),
    Mutant(
        "training: rows of an epoch are always the same",
        ROWS,
        "order = torch.randperm(count, generator=generator)\n    return torch.cat",
        "order = torch.arange(count)\n    return torch.cat",
        "tests/tables/test_minibatches.py tests/training",
    ),
    Mutant(
        "training: a resumed run draws other numbers",
        RUN,
        'self.session.put_random_state(state["random"])',
        "pass",
        KEPT + SLOW,
    ),
    Mutant(
        "training: a resumed run forgets its best epoch",
        RUN,
        'self._best, self._monitored = state["best"], state["monitored"]',
        "pass",
        KEPT + SLOW,
    ),
    Mutant(
        "training: a resumed optimiser forgets its moments",
        "pyro_mnar/training/stepper.py",
        "            if memory is not None:\n                device",
        "            if False:\n                device",
        KEPT + SLOW,
    ),
    Mutant(
        "training: another call's checkpoint is gone on from",
        "pyro_mnar/training/checkpoint.py",
        "if not _same(saved, own):",
        "if False:",
        KEPT,
    ),
    Mutant(
        "training: bootstrap weights are all one",
        BOOTSTRAP,
        "return of_units[units]",
        "return 0 * of_units[units] + 1",
        BOOTSTRAPPED,
    ),
    Mutant(
        "training: bootstrap variances are too small",
        BOOTSTRAP,
        "np.full(count, (count - 2) / count)",
        "np.full(count, 1.0)",
        BOOTSTRAPPED,
    ),
    Mutant(
        "training: members share a seed",
        "pyro_mnar/training/restarts.py",
        "int(np.random.SeedSequence([seed, member]).generate_state(1)[0])",
        "seed",
        "tests/training/test_restarts.py " + BOOTSTRAPPED,
    ),
    Mutant(
        "training: U belongs to other rows",
        ROWS,
        "return replace(self, **{name: value[rows] for name, value in self.of_rows().items()})",
        "return replace(self, **{n: v[rows.flip(0) if n == 'aux' else rows] for n, v in self.of_rows().items()})",
        "tests/tables/test_minibatches.py",
    ),
    Mutant(
        "training: every epoch has the same noise",
        SESSION,
        "                self._states = self._random_states()\n\n    def random_state",
        "                pass\n\n    def random_state",
        "tests/training/test_noise.py" + SLOW,
    ),
    Mutant(
        "training: a start from the data although columns bend",
        "pyro_mnar/training/data_start.py",
        "start is None or start.bend <= most_bend",
        "True",
        START,
    ),
    Mutant(
        "training: a start from the data where latents do not hold U and the rest",
        "models/data_start.py",
        "if count > most:",
        "if False:",
        START,
    ),
    Mutant(
        "graphs: groups of rows are no part of the regression",
        "pyro_mnar/graphs/likely.py",
        "groups = by_u(torch.as_tensor(predictors.values)).numpy()",
        "groups = None",
        "tests/graphs/test_likely.py",
    ),
    Mutant(
        "models: groups of rows enter the prior where they tell nothing",
        "models/prior_groups.py",
        "(nats := _nats(table, groups)) < LEAST_NATS",
        "(nats := _nats(table, groups)) < -1e9",
        "tests/models/test_prior_groups.py",
    ),
    Mutant(
        "models: a row is asked of trees that were grown with it",
        "pyro_mnar/nn/forests.py",
        "seen[:, output] & (fold != number)",
        "seen[:, output]",
        "tests/models/test_prior_forests.py",
    ),
    Mutant(
        "models: what is seen of columns that mask themselves grows forests",
        "models/prior_forests.py",
        "and column.name not in own and",
        "and",
        "tests/models/test_prior_forests.py",
    ),
    Mutant(
        "models: columns that are tried cost forests nothing",
        "models/prior_forests.py",
        "found >= LEAST_NATS + math.log(len(asked))",
        "found >= LEAST_NATS",
        "tests/models/test_prior_forests.py",
    ),
    Mutant(
        "models: a latent dimension that is given grows by forests",
        "models/gina.py",
        "judged is not None and latent_dim is None and decoder is None",
        "judged is not None and decoder is None",
        "tests/models/test_prior_forests.py",
    ),
    Mutant(
        "models: a bend is not seen because groups stand for it",
        "models/data_start.py",
        "bend if plain is None else max(bend, rows.bend(plain, plain_u))",
        "bend",
        "tests/models/test_prior_groups.py",
    ),
    Mutant(
        "models: pairs alone tell how many factors there are",
        "models/data_start.py",
        "while count < min(most, free.sum() - 1):",
        "while False:",
        "tests/models/test_data_start.py",
    ),
    Mutant(
        "models: columns that mask themselves are not looked at for bends of their own",
        "models/data_start.py",
        "bend = max(bend, rows.own_bend(solved, u))",
        "bend = max(bend, 0.0)",
        "tests/models/test_data_start.py",
    ),
    Mutant(
        "models: columns with gaps tell of bends with zeros in these",
        "models/data_start.py",
        "complete if rest is None else rest[:, [at]]",
        "complete if rest is None else np.delete(x, at, axis=1)",
        "tests/models/test_data_start.py",
    ),
    Mutant(
        "imputation: draws have no twins",
        "pyro_mnar/imputation/row_proposals.py",
        "torch.cat([half, sign * half])",
        "torch.cat([half, half])",
        "tests/imputation/test_common_particles.py",
    ),
    # Diagnostics
    Mutant(
        "twins: starts with a worse bound count too",
        "pyro_mnar/diagnostics/twins.py",
        'spread = spread_of(means, bounds["equal"], table)',
        'spread = spread_of(means, bounds["equal"] | True, table)',
        "tests/diagnostics",
    ),
    Mutant(
        "restarts: those with a worse bound count too",
        "pyro_mnar/diagnostics/spread.py",
        "chosen = means[equal.to_numpy()]",
        "chosen = means",
        "tests/diagnostics",
    ),
    Mutant(
        "companion: gaps still tell it of the values behind them",
        "pyro_mnar/diagnostics/without_mechanism.py",
        "return model(batch.without_mechanism())",
        "return self.inner(batch)",
        "tests/diagnostics/test_ignorable.py",
    ),
    Mutant(
        "companion: its R may not see complete columns",
        "pyro_mnar/diagnostics/seen_causes.py",
        "b[:, near][:, chosen]",
        "b[:, near][:, []]",
        "tests/diagnostics/test_ignorable.py",
    ),
    Mutant(
        "companion: the slopes of the fit cost nothing",
        "pyro_mnar/diagnostics/preference.py",
        "- price + law.price",
        "+ law.price",
        "tests/diagnostics/test_ignorable.py",
    ),
    # Isolation and files
    Mutant(
        "isolation: the caller's generator moves",
        SESSION,
        "        states = self._random_states()\n        try:\n            yield\n        finally:\n            self._set_random_states(states)",
        "        yield",
        ISOLATED,
    ),
    Mutant(
        "isolation: a child keeps another's lock",
        SESSION,
        "    _LOCK = threading.RLock()\n    if _outside",
        "    if _outside",
        ISOLATED,
    ),
    Mutant(
        "isolation: a fit is copied while another thread runs it",
        "pyro_mnar/training/fitted.py",
        "        with locked():\n            model, guide = copied_modules(self.model, self.guide)\n            return",
        "        if True:\n            model, guide = self.model, self.guide\n            return",
        "tests/infer/test_isolation.py",
    ),
    Mutant(
        "partitions: a worker waits until it may pickle a fit",
        "pyro_mnar/scale/partitions.py",
        "if self.content is None else",
        "if True else",
        "tests/scale/test_partitions.py",
    ),
    Mutant(
        "files: the digest is not compared",
        FILES,
        "if hashlib.sha256(archive).hexdigest().encode() != fields[3]:",
        "if False:",
        SAVED,
    ),
    Mutant("files: anything is unpickled", FILES, "weights_only=True", "weights_only=False", SAVED),
    Mutant(
        "files: a write is not atomic",
        "pyro_mnar/tables/whole_files.py",
        "write_through(beside, content)",
        'write_through(path, content), beside.write_bytes(b"")',
        SAVED,
    ),
    Mutant(
        "constraints: equal values are in strict order",
        CONSTRAINTS,
        "value > least if self.strict else value >= least",
        "value >= least",
        CONSTRAINED,
    ),
    Mutant(
        "constraints: sums are never wrong",
        CONSTRAINTS,
        "return ~(error > self.tolerance * size)",
        "return np.ones_like(error, dtype=bool)",
        CONSTRAINED,
    ),
    Mutant(
        "formulas: other units pass",
        "pyro_mnar/tables/formula_evidence.py",
        "if enough and against > SHARE * shown:",
        "if False:",
        "tests/tables/test_formula_evidence.py",
    ),
    Mutant(
        "means: of logarithms in single precision",
        "pyro_mnar/imputation/averages.py",
        "constrained_tensor(x[..., d].double() * column.std + column.mean)",
        "constrained_tensor(x[..., d] * column.std + column.mean)",
        "tests/test_extreme_numbers.py -k means",
    ),
    Mutant(
        "means: weights in single precision",
        "pyro_mnar/imputation/averages.py",
        "log_weights.to(x.dtype).softmax(0)",
        "log_weights.softmax(0)",
        "tests/test_extreme_numbers.py -k means",
    ),
    Mutant(
        "files: expressions of a file are not looked at",
        "pyro_mnar/tables/row_functions.py",
        "        read = names_in(source, what)\n        if tuple(names) != read:",
        "        read = tuple(names)\n        if tuple(names) != read:",
        SAVED,
    ),
    Mutant(
        "memory: everything fits",
        "pyro_mnar/memory.py",
        "if value > free / bytes_each:",
        "if False:",
        SAFE + " -k latent_dim",
    ),
]


def outcome(tests: str) -> int:
    """Pytest's exit status: 0 where all pass, 1 where one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow"]
    return subprocess.run([*command, *tests.split(" ")], cwd=ROOT, capture_output=True, check=False).returncode


def killed(mutant: Mutant) -> bool:
    """Whether its tests fail; the file is put back."""
    path = ROOT / mutant.file
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", mutant.file], cwd=ROOT, check=False).returncode:
        raise RuntimeError(f"{mutant.file}: has changes that are not committed; commit them first")
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
        return outcome(mutant.tests) == 1
    finally:
        path.write_text(source, encoding="utf-8")


def main(words: list[str]) -> int:
    """Run the mutants whose names hold all words; the number of survivors."""
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in words)]
    survivors = []
    passing: dict[str, bool] = {}
    for number, mutant in enumerate(chosen, 1):
        start = time.monotonic()
        if mutant.tests not in passing:
            passing[mutant.tests] = outcome(mutant.tests) == 0
        told = "FAILING" if not passing[mutant.tests] else "killed" if killed(mutant) else "SURVIVED"
        survivors += [] if told == "killed" else [mutant.name]
        sys.stdout.write(f"{number:3} of {len(chosen)}  {told:8}  {time.monotonic() - start:5.0f} s  {mutant.name}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - len(survivors)} of {len(chosen)} killed; survivors: {survivors or 'none'}\n")
    return len(survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
