"""``python -m pyro_mnar.cli``, where the console script is not on the path."""

import sys

from pyro_mnar.cli.command_line import main

if __name__ == "__main__":
    sys.exit(main())
