"""`python -m glassdock`: the same as the console script."""

from __future__ import annotations

import sys

from glassdock.cli.main import main

sys.exit(main())
