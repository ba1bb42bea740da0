"""`python -m unitkit`, and `torchrun -m unitkit` on several GPUs."""

import sys

try:
    from .cli import main
except KeyboardInterrupt:  # Ctrl-C while it is still being imported
    print("stopped", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":  # the workers of an ablation import this module too
    main()
