"""`python -m theory` is `jsharp verify`."""

import sys

from theory.verify import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
