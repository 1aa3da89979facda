"""Entry point of `python -m pclhd` and `torchrun -m pclhd`, the same as `pclhd`."""

from pclhd.cli import main

if __name__ == "__main__":
    main()
