"""The study behind ``js.datasets.load_tiny_lm()``: how its table was measured, runnable.

``python -m jaxscale.datasets.tiny_lm_study --out DIR`` trains every model of the plan on one core
and appends each finished run to ``DIR/tiny_lm.csv``; started again, it goes on where it was.
``--quick`` does the same in miniature, in seconds.
"""
