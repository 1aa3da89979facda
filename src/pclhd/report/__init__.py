"""Tables, figures and the one-page report, made from saved results."""
