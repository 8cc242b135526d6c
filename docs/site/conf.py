"""Sphinx: the site is built from a staged copy of the pages that GitHub shows (.ci/site.py), so links are the same."""

import pyro_mnar

project = "pyro-mnar"
author = "the pyro-mnar authors"
release = version = pyro_mnar.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
root_doc = "index"
nb_execution_mode = "off"  # notebooks are committed executed
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # notebooks may start below the first level
autosummary_generate = True
autodoc_typehints = "none"  # signatures show them, and docstrings say what they mean
autodoc_member_order = "bysource"
napoleon_use_rtype = False
python_maximum_signature_line_length = 100
html_static_path = ["_static"]
mathjax_path = "tex-svg.js"  # in _static, where .ci/site.py puts it
html_theme = "pydata_sphinx_theme"
html_title = "pyro-mnar"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False, "show_prev_next": False}
html_sidebars = {"index": [], "CHANGELOG": [], "CONTRIBUTING": []}
