"""Improved Texture Networks (Ulyanov, Vedaldi, Lempitsky, CVPR 2017), reproduced.

The modules, each importing only those before it: ``config`` (what a run is), ``data`` (images),
``descriptors`` (VGG-19 and its Gram matrices), ``generators`` (StyleNet), ``losses`` (the
objective), ``training``, ``baselines`` (generation by optimisation), ``metrics``, ``claims`` (the
verdicts).
"""

__version__ = "0.1.0"
