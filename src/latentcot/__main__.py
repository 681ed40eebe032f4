"""`python -m latentcot` is the command `latentcot`."""

from latentcot.cli import main

main()
