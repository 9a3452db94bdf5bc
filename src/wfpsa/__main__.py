"""`python -m wfpsa` is the command `wfpsa`."""

import sys

from wfpsa.cli import main

sys.exit(main())
