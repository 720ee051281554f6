"""Makes the embedded encoders: images from formulas, an objective, a training that continues, an export.

    programs -> render -> pool -> views -> objective -> train -> export

No photograph and no patient enters: every pixel is computed from random numbers.
"""
