"""``python -m crank`` is the ``crank`` command.

Python puts the working folder first on the import path then, where a user's own ``workers/`` would hide ours; it goes
last instead.
"""

import os
import sys

if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    sys.path.append(sys.path.pop(0))

from crank.cli import main

main()
