"""The matrix of versions: ``nox`` runs the quick tests on every Python, with the newest and the oldest dependencies.

nox -s tests-3.12          one Python
nox -s oldest              the lower ends that setup.cfg allows
nox -s wheel               the built wheel, outside the checkout
nox -s audit               known vulnerabilities of what it depends on; needs the network, so it is not run by default
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "oldest", "wheel"]
QUICK = ("-q", "-m", "not slow", "tests")


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """The quick tests, with the newest versions that pip finds."""
    session.install("--editable", ".[test,scale]")
    session.run("pip", "check")
    session.run("pytest", *QUICK, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The quick tests, with the oldest versions that setup.cfg allows."""
    lower_ends = Path(session.create_tmp()) / "oldest.txt"
    lower_ends.write_text("\n".join(lower_ends_of("test", "scale")), encoding="utf-8")
    session.install("--editable", ".[test,scale]", "--constraint", str(lower_ends))
    # Old versions call what newer ones beneath them will drop, as matplotlib 3.8 does of pyparsing 3.3.
    quiet = ("-W", "ignore::DeprecationWarning")
    session.run("pytest", *QUICK, *quiet, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python="3.11")
def wheel(session: nox.Session) -> None:
    """The wheel, imported outside the checkout."""
    session.install("build")
    session.run("python", "-m", "build", "--wheel", "--outdir", session.create_tmp())
    (built,) = Path(session.create_tmp()).glob("*.whl")
    session.install(str(built))
    session.cd(session.create_tmp())
    session.run("python", "-c", "from pyro_mnar import *; from pyro_mnar.models import GINA")
    session.run("pyro-mnar", "--help", silent=True)


@nox.session(python="3.11")
def audit(session: nox.Session) -> None:
    """What is installed with the package, against the advisories that PyPI publishes."""
    session.install("pip-audit", ".")
    session.run("pip-audit", "--local", *session.posargs)


def lower_ends_of(*extras: str) -> list[str]:
    """What is required, and what some extras add, each at its lower end."""
    metadata = configparser.ConfigParser()
    metadata.read("setup.cfg", encoding="utf-8")
    required = [
        metadata["options"]["install_requires"],
        *(metadata["options.extras_require"][extra] for extra in extras),
    ]
    lines = {line.strip() for lines in required for line in lines.splitlines() if re.match(r"\s*[a-z]", line)}
    return sorted(re.sub(r"\[.*\]", "", line).replace(">=", "==") for line in lines)
