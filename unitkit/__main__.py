"""`python -m unitkit`, and `torchrun -m unitkit` on several GPUs."""

from .cli import main

main()
