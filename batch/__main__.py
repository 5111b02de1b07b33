"""`python -m batch`, in a clone of the project."""

import sys

from .cli import main

sys.exit(main())
