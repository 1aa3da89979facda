"""The sections of the report: one function each, which returns the values for a template.

Values contain no HTML except the SVG of figures and the plotting library. A function returns `Absent` if the section's
data are missing, and None if the page omits the section.
"""
