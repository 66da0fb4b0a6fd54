"""The scripts that make the site, importable."""

import sys

from places import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "docs" / "_site"))
