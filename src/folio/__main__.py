"""``python -m folio`` is the command ``folio``."""

import sys

from folio.cli import main

sys.exit(main())
