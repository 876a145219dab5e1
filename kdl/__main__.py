"""python -m kdl: the command line."""
import sys

from kdl.cli import main

sys.exit(main())
