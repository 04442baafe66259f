"""`python -m converter convert|verify|inspect|tune`."""

import sys

from converter.cli import main

sys.exit(main())
