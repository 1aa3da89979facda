"""The synthetic benchmark: invented people, drawn by anyone who asks, the same for the same seed.

`write_synthetic` writes a data set in a public layout; `draw_population` draws labelled pictures in memory.
"""

from pclhd.data.synthetic.palette import DEFAULT_GAP
from pclhd.data.synthetic.render import draw_population
from pclhd.data.synthetic.seeds import GENERATOR_VERSION, Population
from pclhd.data.synthetic.write import SyntheticSummary, write_synthetic

__all__ = ["DEFAULT_GAP", "GENERATOR_VERSION", "Population", "SyntheticSummary", "draw_population", "write_synthetic"]
