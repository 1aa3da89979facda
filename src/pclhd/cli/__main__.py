"""``python -m pclhd.cli``."""

from pclhd.cli.verbs import main

main()
