"""One module a figure: `draw(result) → Figure` and `rows(result) → what its CSV holds`.

Results are the plain values of `analysis/*.json`; nothing is measured here, and only here is
matplotlib imported. `style.py` has the sizes and colours that all of them share.
"""
