"""What training on a large, nearly empty table takes: memory that is the minibatch's, not the table's."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

MOST = 1_150  # MB beside Python and its libraries; the dense table alone would be 2,000 and its mask 500


@pytest.mark.slow
def test_100_000_rows_of_5_000_columns_train_in_little_memory() -> None:
    script = """
        import resource, sys
        from pathlib import Path
        import numpy as np, scipy.sparse, torch
        from pyro_mnar import ImportanceWeightedELBO, Table
        from pyro_mnar.guides import PointNet
        from pyro_mnar.models import GINA
        from pyro_mnar.training.stepper import EagerSteps, Optimisation

        def most_megabytes():
            if sys.platform == "linux":  # where ru_maxrss of a child begins at what its parent had
                status = Path("/proc/self/status").read_text().split()
                return int(status[status.index("VmHWM:") + 1]) / 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 ** (2 if sys.platform == "darwin" else 1)

        of_libraries = most_megabytes()
        rng, rows, columns = np.random.default_rng(0), 100_000, 5_000
        cells = np.unique(rng.integers(0, rows * columns, rows * columns // 1000))
        matrix = scipy.sparse.coo_array((rng.normal(size=len(cells)), np.divmod(cells, columns)), (rows, columns))
        table = Table.from_sparse(matrix, auxiliary=[], dtype=torch.float32)
        model, guide = GINA(table, latent_dim=8, seed=0), PointNet(table, 8, seed=0)
        bound, source = ImportanceWeightedELBO(5), table.source()
        parameters = [*model.parameters(), *guide.parameters()]
        def loss(batch):
            return bound.differentiable_loss(model, guide, batch) / batch.size

        rates = torch.full((2,), 1e-2, dtype=torch.float64)
        steps = EagerSteps(Optimisation(loss, parameters, source, 128, rates))
        before = [parameter.detach().clone() for parameter in parameters]
        losses = torch.stack(list(steps.run(torch.randint(rows, (2, 128)))))
        assert losses.isfinite().all()
        assert any(not torch.equal(old, new) for old, new in zip(before, parameters))
        print(most_megabytes() - of_libraries)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert 100 < float(run.stdout) < MOST
