"""`python -m c2f_ref` is `c2f-ref`."""

import sys

from .cli import main

sys.exit(main())
