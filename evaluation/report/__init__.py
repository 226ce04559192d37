"""An evaluation as a page to look at: figures, what is confused with what, calibration, and the clips behind errors."""
