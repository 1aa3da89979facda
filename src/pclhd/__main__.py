"""`python -m pclhd` is `pclhd`; so is `torchrun -m pclhd`."""

from pclhd.cli import main

if __name__ == "__main__":
    main()
