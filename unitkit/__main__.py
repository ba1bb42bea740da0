"""`python -m unitkit`, and `torchrun -m unitkit` on several GPUs."""

from .cli import main

if __name__ == "__main__":  # the workers of an ablation import this module too
    main()
