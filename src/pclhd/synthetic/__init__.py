"""The synthetic benchmark: drawings of invented people, the same for the same seed.

`write_synthetic` writes a data set in a public layout; `draw_population` draws labelled images in memory.
"""

from pclhd.synthetic.palette import DEFAULT_GAP
from pclhd.synthetic.render import draw_population
from pclhd.synthetic.seeds import NEWEST, VERSIONS, Population
from pclhd.synthetic.write import SyntheticSummary, write_synthetic

__all__ = ["DEFAULT_GAP", "NEWEST", "VERSIONS", "Population", "SyntheticSummary", "draw_population", "write_synthetic"]
