"""python -m tests.stubs: write the stubs; with --check, say whether they are current."""
import sys

from tests.stubs import main

sys.exit(main(check="--check" in sys.argv))
