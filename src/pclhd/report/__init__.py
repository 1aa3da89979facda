"""Tables, figures and the one-page report, from saved results."""
